"""What a person sees while something runs: a progress bar, and nothing from the libraries."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

LINES = 20  # of a phase, at most


@contextmanager
def phase_bar(title: str, total: int | None, lines: bool = False) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the number of newly done pieces. The bar disappears at the end.

    total: None where nobody knows it before. lines: print some lines instead where stderr is no terminal
    and the total is known; else there is nothing.
    """
    from rich import progress as bars
    from rich.console import Console
    from rich.text import Text

    class Rate(bars.ProgressColumn):
        """Pieces a second, or a minute where they are slow."""

        def render(self, task) -> Text:
            speed = task.finished_speed or task.speed
            if speed is None:
                return Text("")
            return Text(f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min")

    known = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    columns = (*known, Rate(), bars.TimeRemainingColumn())
    console = Console(stderr=True)
    if lines and total is not None and not console.is_terminal:
        yield _lines(title, total)
        return
    with bars.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


def _lines(title: str, total: int) -> Callable[[int], None]:
    """A line for every twentieth of the pieces."""
    start, done, told = time.monotonic(), 0, 0

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        if (part := LINES * done // max(1, total)) > told:
            told, spent = part, timedelta(seconds=round(time.monotonic() - start))
            print(
                f"{title}: {done:,} of {total:,} ({done / total:.0%}) in {spent}", file=sys.stderr, flush=True
            )

    return advance


def quiet_libraries() -> None:
    """Turn off the libraries' own bars and hints. Their errors stay."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
