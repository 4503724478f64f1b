"""What a whole data set is like, gathered row by row: some bytes a row, however large the rows are."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from gmpo_vl.preflight.findings import Finding, row_finding
from gmpo_vl.preflight.row_check import RowChecker, RowReport, hash_of

LONGEST_KEPT = 10_000  # over-long rows that the search for a fitting max_pixels looks at


@dataclass
class SplitSurvey:
    """Figures of one split. Arrays have an entry for each usable row (`row_K`) or for each picture of one."""

    split: str
    rows: int = 0
    row_K: array = field(default_factory=lambda: array("q"))
    tokens_K: array = field(default_factory=lambda: array("i"))
    image_tokens_K: array = field(default_factory=lambda: array("i"))
    problem_K: array = field(default_factory=lambda: array("Q"))
    answer_K: array = field(default_factory=lambda: array("Q"))
    picture_N: array = field(default_factory=lambda: array("Q"))
    picture_row_N: array = field(default_factory=lambda: array("q"))
    id_R: array = field(default_factory=lambda: array("Q"))
    gold_types: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, set[str]] = field(default_factory=dict)
    long_rows: list[tuple[int, tuple[tuple[int, int], ...]]] = field(default_factory=list)
    enlarged: int = 0  # pictures that data.min_pixels scales up, and the tokens that this adds
    added_tokens: int = 0

    def add(self, report: RowReport) -> None:
        self.rows += 1
        self.id_R.append(hash_of(report.place.id))
        if report.gold_type:
            self.gold_types[report.gold_type] += 1
        for name, kind in report.kinds.items():
            self.kinds.setdefault(name, set()).add(kind)
        too_long = any(finding.check == "prompt_too_long" for finding in report.findings)
        if too_long and len(self.long_rows) < LONGEST_KEPT:
            self.long_rows.append((report.text_tokens, report.sizes))
        if report.counted:
            self.row_K.append(report.number)
            self.tokens_K.append(report.tokens)
            self.image_tokens_K.append(sum(report.image_tokens))
            self.enlarged += report.enlarged
            self.added_tokens += report.added_tokens
            self.problem_K.append(report.problem_hash)
            self.answer_K.append(report.answer_hash)
            self.picture_N.extend(report.picture_hashes)
            self.picture_row_N.extend([report.number] * len(report.picture_hashes))


def cross_findings(
    surveys: Mapping[str, SplitSurvey], checkers: Mapping[str, RowChecker]
) -> Iterator[tuple[str, int, Finding]]:
    """Ids, problems and pictures that come twice, within a split and across splits.

    Gives (split, number of the row in it, finding). Across splits the finding is about the row of the earlier
    split (train), and names the later one's.
    """
    names = list(surveys)
    for i, name in enumerate(names):
        one = surveys[name]
        shared = (_shared(one, surveys[later], checkers[later]) for later in names[i + 1 :])
        for number, reason, detail in chain(_same_ids(one), _twice(one), *shared):
            yield name, number, row_finding(reason, detail, checkers[name].read(number)[0])


Problems = Iterator[tuple[int, str, str]]  # (number of the row, reason, detail)


def _same_ids(survey: SplitSurvey) -> Problems:
    for row, first in _repeats(np.array(survey.id_R, dtype=np.uint64), np.arange(survey.rows)):
        yield row, "duplicate_id", f"the same id as row {first}"


def _twice(survey: SplitSurvey) -> Problems:
    rows = np.array(survey.row_K, dtype=np.int64)  # ascending
    for row, first in _repeats(np.array(survey.problem_K, dtype=np.uint64), rows):
        one, other = np.searchsorted(rows, (row, first)).tolist()
        if survey.answer_K[one] == survey.answer_K[other]:
            yield row, "duplicate", f"the same problem as row {first}"
        else:
            yield row, "contradiction", f"the same problem as row {first}, with another answer"


def _shared(one: SplitSurvey, other: SplitSurvey, checker: RowChecker) -> Problems:
    """checker: of the other split."""
    known = set()
    for row, there in _common(one.problem_K, one.row_K, other.problem_K, other.row_K):
        known.add(row)
        yield row, "leak_problem", f"also in {other.split}: {checker.read(there)[0]}"
    for row, there in _common(one.picture_N, one.picture_row_N, other.picture_N, other.picture_row_N):
        if row not in known:
            known.add(row)
            yield row, "leak_picture", f"its picture is in {other.split} too: {checker.read(there)[0]}"


def _repeats(values: np.ndarray, rows: np.ndarray) -> list[tuple[int, int]]:
    """(row, first row with the same value) of every value's later occurrences, in the order of the rows."""
    if len(values) == 0:
        return []
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    first = order[np.maximum.accumulate(np.where(starts, np.arange(len(values)), 0))]
    later = ~starts
    return sorted(zip(rows[order[later]].tolist(), rows[first[later]].tolist()))


def _common(
    values: Sequence[int], rows: Sequence[int], other: Sequence[int], other_rows: Sequence[int]
) -> list[tuple[int, int]]:
    """(row, a row of the other split) wherever the two have a value in common, in the order of the rows."""
    if len(other) == 0:
        return []
    there, index = np.unique(np.array(other, dtype=np.uint64), return_index=True)
    mine = np.array(values, dtype=np.uint64)
    place = np.minimum(np.searchsorted(there, mine), len(there) - 1)
    found = np.flatnonzero(there[place] == mine)
    return [(rows[k], other_rows[j]) for k, j in zip(found.tolist(), index[place[found]].tolist())]
