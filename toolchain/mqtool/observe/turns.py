"""Work that runs side by side and has to be taken in one after another."""

from threading import Condition

__all__ = ["Turns"]


class Turns:
    """Keeps pieces of work that run in threads of their own in their order."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._turn = 0
        self._stopped = False

    def wait(self, number: int) -> None:
        """Return when it is the turn of a piece of work.

        Raises:
            RuntimeError: another one failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._turn == number)
            if self._stopped:
                raise RuntimeError(f"work before {number} failed")

    def end(self, number: int) -> None:
        """Wait for the turn of a piece of work, and give it to the next."""
        self.wait(number)
        with self._changed:
            self._turn += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Let all that wait fail."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
