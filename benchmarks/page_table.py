"""A table that stands in a page of docs/ between two marks, made by a benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

END = "<!-- end -->\n"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are written as they are: a `|` in one is to be escaped."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]]) + "\n"


@dataclass(frozen=True)
class PageTable:
    """page: a name in docs/.   script: what makes the table, a path of benchmarks/.   table: its text."""

    page: str
    script: str
    table: Callable[[], str]

    @property
    def path(self) -> Path:
        return Path(__file__).parents[1] / "docs" / self.page

    def text(self) -> str:
        """The page as it stands."""
        return self.path.read_text(encoding="utf-8")

    def written(self) -> str:
        """The page with the table as the code makes it now."""
        begin = f"<!-- from {self.script} -->\n"
        before, _, rest = self.text().partition(begin)
        return before + begin + self.table() + END + rest.partition(END)[2]

    def main(self, description: str | None) -> None:
        """Print the table, or write it into its page."""
        raw = argparse.RawDescriptionHelpFormatter
        parser = argparse.ArgumentParser(description=description, formatter_class=raw)
        parser.add_argument("--write", action="store_true", help=f"write it into docs/{self.page}")
        if parser.parse_args().write:
            self.path.write_text(self.written(), encoding="utf-8")
        else:
            print(self.table(), end="")
