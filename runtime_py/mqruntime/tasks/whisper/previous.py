"""Text before a window: the caller's prompt, and what was said in the windows before.

Half of the decoder's positions are for it, as in openai/whisper's `transcribe`
(`condition_on_previous_text`): the last tokens, with the timestamps where there are any, since a
window was last decoded at a temperature above 0.5. Unlike there by default, the caller's prompt
stays before all windows.
"""

from collections.abc import Sequence

__all__ = ["PreviousText"]

DOUBTED = 0.5
"""Temperature above which a text is no prompt for what follows."""


class PreviousText:
    """Of one recording.

    Args:
        start: the token that begins it.
        room: how many tokens may follow that.
        prompt: tokens of the caller's.
        follows: whether what is said is added.
    """

    def __init__(
        self, start: int = 0, room: int = 0, prompt: Sequence[int] = (), *, follows: bool = False
    ) -> None:
        self._start, self._room, self._follows = start, room, follows
        self._prompt = [*prompt[max(len(prompt) - room, 0) :]]
        self._said: list[int] = []

    @property
    def tokens(self) -> list[int]:
        """What comes before a window's own prompt; none for no text."""
        text = [*self._prompt, *self._said]
        return [self._start, *text] if text else []

    def add(self, tokens: Sequence[int], temperature: float) -> None:
        """Take in what was said in a window, decoded at a temperature."""
        if self._follows:
            said = [*self._said, *tokens] if temperature <= DOUBTED else []
            room = self._room - len(self._prompt)
            self._said = said[max(len(said) - room, 0) :]
