"""Do the golds of a data set verify against themselves? `gmpo-vl grade --self-check DATASET` asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gmpo_vl.data.sources import open_tables, saved_splits
from gmpo_vl.verify import Gold, Profile, verify
from gmpo_vl.verify.grade import MAX_TOLD, loaded, numbered_lines, read_gold
from gmpo_vl.verify.natural_forms import unreached

COLUMNS = ("answer", "gold")  # the first that a row has
MOST_FORMS = 4  # that are named of a gold


@dataclass(frozen=True)
class Failure:
    """A gold that does not verify, or an unreadable row (`gold` is None). where: file, and line or row."""

    where: str
    gold: str | None
    reason: str

    def __str__(self) -> str:
        gold = "" if self.gold is None else f"{self.gold!r}: "
        return f"{self.where}: {gold}{self.reason}"


def self_check(dataset: str | Path, profile: Profile = "strict") -> list[Failure]:
    """Every gold that does not verify against itself, and every row that cannot be read; a sound data set has
    none.

    dataset: a .jsonl, .json or .parquet file with a column `answer` (or `gold`), or a folder written by
    `datasets.save_to_disk`, of which all splits are read. Raises ValueError where no row has a gold, naming
    the first.
    """
    failures: list[Failure] = []
    num_golds = 0
    for where, gold in _golds(dataset):
        if isinstance(gold, ValueError):
            failures.append(Failure(where, None, f"{gold}. Mend it, or delete it"))
            continue
        num_golds += 1
        failures += [Failure(where, text, reason) for text, reason in _faults(gold, profile)]
    if not num_golds:
        raise ValueError(str(failures[0]) if failures else f"{dataset} holds no row")
    return failures


def summary(failures: list[Failure]) -> str:
    """The counts as people read them."""
    unread = sum(failure.gold is None for failure in failures)
    rows = f"; {unread} rows could not be read" if unread else ""
    return f"{len(failures) - unread} golds do not verify against themselves{rows}"


def narrow_golds(dataset: str | Path) -> list[Failure]:
    """The golds that verify as they are spelled, and not in a form in which a model may well write them."""
    found = []
    for where, gold in _golds(dataset):
        if isinstance(gold, ValueError) or next(_faults(gold, "strict"), None) is not None:
            continue
        spec = read_gold(gold)
        if forms := unreached(spec, partial(_is_right, spec)):
            named = ", ".join(f"{form.text!r} ({form.name})" for form in forms[:MOST_FORMS])
            more = f" and {len(forms) - MOST_FORMS} more" if len(forms) > MOST_FORMS else ""
            found.append(Failure(where, spec.alternatives[0], f"not reached by {named}{more}"))
    return found


def in_words(narrow: list[Failure]) -> list[str]:
    """The golds of `narrow_golds`, as lines for people."""
    lines = [str(one) for one in narrow[:MAX_TOLD]]
    if len(narrow) > MAX_TOLD:
        lines.append(f"... and {len(narrow) - MAX_TOLD:,} more")
    return [
        *lines,
        f"{len(narrow)} golds are not reached by every natural form of the right answer (a warning)",
    ]


def _is_right(gold: Gold, text: str) -> bool:
    return verify(gold, f"\\boxed{{{text}}}").correct


def _golds(dataset: str | Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, the gold) of every row; a ValueError in place of one that cannot be read."""
    for where, row in _rows(Path(dataset)):
        try:
            yield where, _gold_of(row)
        except ValueError as error:
            yield where, error


def _faults(gold: Any, profile: Profile) -> Iterator[tuple[str, str]]:
    """(text, what is wrong with it) of the alternatives that do not verify."""
    try:
        spec = read_gold(gold)
    except ValueError as error:
        yield (gold if isinstance(gold, str) else repr(gold))[:100], str(error)
        return
    if spec.type == "countdown":  # the gold is a target, not an answer
        return
    for alternative in spec.alternatives:
        verdict = verify(spec, f"\\boxed{{{alternative}}}", profile)
        if not verdict.correct:
            yield alternative, verdict.outcome


def _gold_of(row: Any) -> Any:
    """Raises ValueError for what is no row with a gold."""
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"a row is an object with `answer` or `gold`; it is a {type(row).__name__}")
    found = [name for name in COLUMNS if name in row]
    if not found:
        raise ValueError(f"no column `answer` or `gold`; it has {repr(list(row))[:200]}")
    return row[found[0]]


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, what was read) of every row; a ValueError in place of a row that cannot be read."""
    if path.suffix == ".jsonl" and not path.is_dir():
        for number, line in numbered_lines(path):
            yield f"{path}, line {number}", _row_or_error(line)
    elif path.suffix == ".parquet" and path.is_file():
        for i, row in enumerate(_rows_of_parquet(path)):
            yield f"{path}, row {i}", row
    elif path.suffix == ".json" and path.is_file():
        yield from _rows_of(str(path))
    elif (splits := saved_splits(path)) is not None:
        for split in splits:
            yield from _rows_of(f"{path}@{split}" if split else str(path))
    else:
        known = "a .jsonl, .json or .parquet file, or a folder of datasets.save_to_disk"
        raise ValueError(f"{path} is no data set: give {known}")


def _rows_of(source: str) -> Iterator[tuple[str, Any]]:
    for table in open_tables(source):
        for i, row in enumerate(table.rows.scan(COLUMNS)):
            yield f"{table.name}, row {i}", row


def _rows_of_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    try:
        known = pyarrow.parquet.read_schema(path).names
        names = [name for name in COLUMNS if name in known][:1]
        rows = pyarrow.parquet.read_table(path, columns=names).to_pylist()
    except (ValueError, OSError) as error:  # whatever pyarrow finds in the file
        raise ValueError(f"{path} cannot be read as parquet: {error}") from error
    if not names:
        raise ValueError(f"{path} has no column `answer` or `gold`; it has {known}")
    return rows


def _row_or_error(line: str) -> Any:
    try:
        return loaded(line)
    except ValueError as error:
        return error
