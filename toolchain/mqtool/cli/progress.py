"""Progress bars with the time left, on stderr, only when that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mqtool.context import Progress

__all__ = ["progress_bars"]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield what starts a bar (`mqtool.context.Progress`)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bars = Bars(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:

        def start(description: str, total: int) -> Callable[[], None]:
            # A long experiment starts hundreds: those that are done make room.
            for done in [task.id for task in bars.tasks if task.finished]:
                bars.remove_task(done)
            task = bars.add_task(description, total=total or None)

            def advance() -> None:
                if task in bars.task_ids:
                    bars.advance(task)

            return advance

        yield start
