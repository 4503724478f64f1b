"""Do the golds of a data set verify against themselves? `gmpo-vl grade --self-check DATASET` asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from gmpo_vl.data.sources import Table, open_tables, splits_in
from gmpo_vl.verify import Gold, Profile, verify
from gmpo_vl.verify.grade import MAX_TOLD, read_gold
from gmpo_vl.verify.natural_forms import unreached

# The first that a row has. verl's rows have theirs inside of `reward_model`, as `ground_truth`.
COLUMNS = ("answer", "gold", "reward_model")
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

    dataset: a file or folder that data.sources reads, with a column `answer` (or `gold`, or verl's
    `reward_model`); of a folder all splits are read. Raises ValueError where no row has a gold, naming the
    first.
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
            found.append(Failure(where, spec.answers[0], f"not reached by {named}{more}"))
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
    """(text, what is wrong with it) of the answers that do not verify."""
    try:
        spec = read_gold(gold)
    except ValueError as error:
        yield (gold if isinstance(gold, str) else repr(gold))[:100], str(error)
        return
    if spec.type == "countdown":  # the gold is a target, not an answer
        return
    for answer in spec.answers:
        verdict = verify(spec, f"\\boxed{{{answer}}}", profile)
        if not verdict.correct:
            yield answer, verdict.outcome


def _gold_of(row: Any) -> Any:
    """Raises ValueError for what is no row with a gold."""
    if isinstance(row, ValueError):
        raise row
    found = [name for name in COLUMNS if name in row]
    if not found:
        raise ValueError(f"no column `answer` or `gold`; it has {repr(list(row))[:200]}")
    if found[0] != "reward_model":
        return row[found[0]]
    if not isinstance(row["reward_model"], dict) or "ground_truth" not in row["reward_model"]:
        raise ValueError(f"its `reward_model` has no `ground_truth`: {repr(row['reward_model'])[:200]}")
    return row["reward_model"]["ground_truth"]


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, what was read) of every row; a ValueError in place of a row that cannot be read."""
    if not path.exists():
        raise ValueError(f"{path} is no data set: give a file or a folder of rows with their answers")
    splits = splits_in(path) if path.is_dir() else []
    for table in open_tables([f"{path}@{split}" for split in splits] or str(path)):
        known = getattr(table.rows, "columns", COLUMNS)
        if len(table.rows) and set(known).isdisjoint(COLUMNS):
            raise ValueError(f"{table.name} has no column `answer` or `gold`; it has {known}")
        for place, row in zip(_places(table), table.rows.scan(COLUMNS)):
            yield f"{table.name}, {place}", row


def _places(table: Table) -> Iterator[str]:
    """`line 3` of each row of a file with a row a line, `row 1` of others."""
    path = Path(table.name)
    if path.suffix == ".jsonl":
        with path.open("rb") as file:
            lines = [number for number, line in enumerate(file, start=1) if line.strip()]
        if len(lines) == len(table.rows):
            return (f"line {number}" for number in lines)
    return (f"row {number}" for number in count())
