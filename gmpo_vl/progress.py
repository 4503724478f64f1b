"""What a person sees while something runs: a progress bar, and nothing from the libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def phase_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the number of newly done pieces. The bar disappears at the end. total:
    None where nobody knows it before."""
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
    with bars.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


def quiet_libraries() -> None:
    """Turn off the libraries' own bars and hints. Their errors stay."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
