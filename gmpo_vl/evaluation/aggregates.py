"""What a benchmark counts beyond the mean over its questions; a protocol's field `aggregate` names one.

Each is a pure function of the samples: which were right, and the rows' columns, which hold texts or numbers.
A score over several questions (all steps of a problem, all variants of a question) is counted pass by pass:
pass k is the k-th answer to every question, and with n answers a unit's value is the mean of n passes. Units
of which a question is missing, as under `limit`, are left out; `units` says how many are counted.

Importing this needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gmpo_vl.data.answers import written
from gmpo_vl.evaluation.statistics import ENOUGH, mean_share
from gmpo_vl.samples import SampleRecord

Shares = dict[str, dict[str, Any]]  # {name: {value, ci95 (None where there is none), units}}
BETWEEN = "; "  # the values of a question that has several in one column

MATHVERSE_VERSIONS = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
DYNAMATH_VARIANTS = 10


@dataclass(frozen=True)
class Answers:
    """rows: the columns of each question, as texts. right_Qn: bool (Q, n), was the n-th answer right."""

    rows: list[dict[str, str]]
    right_Qn: np.ndarray

    def only(self, keep: Iterable[bool]) -> Answers:
        places = [i for i, kept in enumerate(keep) if kept]
        return Answers([self.rows[i] for i in places], self.right_Qn[places])

    def units(
        self, *columns: str, where: Callable[[Mapping[str, str]], bool] | None = None
    ) -> dict[tuple[str, ...], list[int]]:
        """{values of the columns: the questions that have them, of the rows `where` is true}, in order."""
        found: dict[tuple[str, ...], list[int]] = {}
        for i, row in enumerate(self.rows):
            if where is None or where(row):
                found.setdefault(tuple(row[column] for column in columns), []).append(i)
        return found


def _every_row(row: Mapping[str, str]) -> bool:
    return True


@dataclass(frozen=True)
class Unit:
    """Questions that are right or wrong together: those with equal `columns`, of the rows that it takes.

    size: the column that says how many they are in the whole benchmark. A part of it, as under `limit`,
    cannot tell, so data_prep/vision_benchmarks.py counts them and writes the column.
    """

    size: str
    columns: tuple[str, ...]
    takes: Callable[[Mapping[str, str]], bool] = _every_row

    def whole(self, answers: Answers) -> list[list[int]]:
        """The questions of each unit of which none is missing; none of rows without sizes."""
        if not all(self.size in row for row in answers.rows):
            return []
        units = answers.units(*self.columns, where=self.takes).values()
        return [places for places in units if len(places) == int(answers.rows[places[0]][self.size])]


@dataclass(frozen=True)
class Aggregate:
    """columns: what each row must have; numbers: those of them that hold whole numbers. units: those with a
    column for their size."""

    columns: tuple[str, ...]
    count: Callable[[Answers], Shares]
    numbers: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()


def aggregated(name: str, records: Sequence[SampleRecord], n: int) -> Shares:
    """The named shares of an evaluation. records: n per question, a question's together. Raises ValueError as
    `check_columns`, but results from before the sizes were columns may be graded again without them."""
    for record in records[::n]:
        check_columns(name, record.id, record.meta, with_sizes=False)
    metas, columns = [record.meta for record in records[::n]], AGGREGATES[name].columns
    rows = [{column: written(meta[column]) for column in columns if column in meta} for meta in metas]
    right_Qn = np.array([record.correct for record in records], dtype=bool).reshape(-1, n)
    return AGGREGATES[name].count(Answers(rows, right_Qn))


def check_columns(name: str, question: str, row: Mapping[str, Any], with_sizes: bool = True) -> None:
    """Raises ValueError where a question lacks a column by which the aggregate counts, or has a text in the
    place of a number."""
    aggregate = AGGREGATES[name]
    sizes = () if with_sizes else [unit.size for unit in aggregate.units]
    if missing := [column for column in aggregate.columns if column not in (*row, *sizes)]:
        raise ValueError(
            f"aggregate {name} counts by the column{'s'[: len(missing) > 1]} {', '.join(missing)}, which "
            f"question {question} does not have (a text of at most 200 characters, or a number). "
            "A file of an earlier data_prep/vision_benchmarks.py may lack some: write it again"
        )
    for column in aggregate.numbers:
        if column in row and not re.fullmatch("[0-9]+", written(row[column])):
            raise ValueError(
                f"aggregate {name}: {column} of question {question} is {row[column]!r}, no whole number"
            )


def in_lines(shares: Shares, others: Shares | None = None, whose: str = "") -> list[str]:
    """In percent for the terminal: `score (strict)  31.2 (28.1 to 34.5, 525 units)`; what is counted by the
    values of a column shares a line, without intervals. others: the same shares by the verdicts of `whose`,
    beside them."""
    lines: dict[str, list[str]] = {}
    for name, share in shares.items():
        column, _, value = name.partition(": ")
        said = f"{value} {100 * share['value']:.1f}".strip()
        if not value and share["ci95"] is not None:
            low, high = share["ci95"]
            said += f" ({100 * low:.1f} to {100 * high:.1f}, {share['units']} units)"
        if others and name in others:
            said += f" [{whose} {100 * others[name]['value']:.1f}]"
        lines.setdefault(column, []).append(said)
    return [f"{column}  {', '.join(parts)}" for column, parts in lines.items()]


# --- means over units ---------------------------------------------------------------------------------------
def _share(values_U: np.ndarray) -> dict[str, Any]:
    """Mean over units, with its interval where they are enough."""
    estimate = mean_share(values_U)
    interval = [estimate.low, estimate.high] if len(values_U) >= ENOUGH else None
    return {"value": estimate.value, "ci95": interval, "units": len(values_U)}


def _all_right(answers: Answers, units: Iterable[list[int]]) -> np.ndarray:
    """float64 (U,): in which share of the passes every question of the unit was right."""
    return np.array([answers.right_Qn[places].all(axis=0).mean() for places in units])


def by_columns(answers: Answers, columns: Sequence[str]) -> Shares:
    """Per value of each column the mean over its questions, as `subject: algebra`."""
    found: dict[str, list[float]] = {}
    for column in columns:
        values = sorted({value for row in answers.rows for value in _values(row[column])})
        found |= {f"{column}: {value}": [] for value in values}
        for row, right_n in zip(answers.rows, answers.right_Qn):
            for value in _values(row[column]):
                found[f"{column}: {value}"].append(right_n.mean())
    return {name: _share(np.array(values)) for name, values in found.items()}


def _values(cell: str) -> list[str]:
    return cell.split(BETWEEN)


# --- the benchmarks -----------------------------------------------------------------------------------------
def mathverse(answers: Answers) -> Shares:
    """The mean of the five versions' shares, over problems that have all five; and per version and subject.

    The mean does not count rows of the version Text Only, which is apart.
    """
    five = answers.only(row["version"] in MATHVERSE_VERSIONS for row in answers.rows)
    of_problem = five.units("problem_id").values()
    versions = sorted(MATHVERSE_VERSIONS)
    whole = [places for places in of_problem if sorted(five.rows[i]["version"] for i in places) == versions]
    means = np.array([five.right_Qn[places].mean() for places in whole])
    found = {"mean of the five versions": _share(means)} if whole else {}
    return found | by_columns(answers, ["version"]) | by_columns(five, ["subject"])


def wemath(answers: Answers) -> Shares:
    """We-Math's four outcomes of a problem that is asked in steps and whole, and the scores of them.

    IK: a step is wrong, and the whole. IG: all steps are right, the whole is not. CM: steps and whole are
    right; RM: the whole is, though not the steps. "strict" wants all steps for CM, "loose" one. Score =
    1 - IK - IG / 2 - RM. RM is the official rate RM / (RM + CM), no mean over problems: without an interval.
    """
    found = by_columns(answers, ["step"])
    steps = []  # of each problem, the whole last
    for places in answers.units("problem_id").values():
        parts = sorted((answers.rows[i]["part"], i) for i in places)
        count = int(answers.rows[places[0]]["steps"])
        if [part for part, _ in parts] == [*map(str, range(1, count + 1)), "multi"]:
            steps.append([i for _, i in parts])
    if not steps:
        return found
    all_Pn, any_Pn, whole_Pn = (
        np.array([pick(answers.right_Qn[places]) for places in steps])
        for pick in (lambda r: r[:-1].all(axis=0), lambda r: r[:-1].any(axis=0), lambda r: r[-1])
    )
    insufficient, general = ~all_Pn & ~whole_Pn, all_Pn & ~whole_Pn
    scores: Shares = {}
    rates: Shares = {"IK": _passes(insufficient), "IG": _passes(general)}
    for name, mastered in (("strict", all_Pn & whole_Pn), ("loose", any_Pn & whole_Pn)):
        rote = whole_Pn & ~mastered
        scores[f"score ({name})"] = _share((1 - insufficient - 0.5 * general - rote).mean(axis=1))
        rates[f"CM ({name})"] = _passes(mastered)
        if whole_Pn.any():
            rates[f"RM ({name})"] = {
                "value": float(rote.sum() / whole_Pn.sum()),
                "ci95": None,
                "units": len(steps),
            }
    return scores | rates | found


def _passes(outcome_Pn: np.ndarray) -> dict[str, Any]:
    return _share(outcome_Pn.mean(axis=1))


def _is_seen(row: Mapping[str, str]) -> bool:
    return row["visual_input"] != "0"


def _is_figure(row: Mapping[str, str]) -> bool:
    """Figure 0 of VS is no figure: its questions are asked without a picture."""
    return row["category"] != "VS" or row["figure_id"] != "0"


_OF_A_SET = ("category", "subcategory", "set_id")
_QUESTION = Unit("question_rows", (*_OF_A_SET, "question_id"))
_SEEN_QUESTION = Unit("question_rows_with_picture", (*_OF_A_SET, "question_id"), _is_seen)
_FIGURE = Unit("figure_rows", (*_OF_A_SET, "figure_id"), _is_figure)
HALLUSIONBENCH = (*_OF_A_SET, "figure_id", "question_id", "visual_input")


def hallusionbench(answers: Answers) -> Shares:
    """aAcc: answers. qAcc: questions that are right for all of their figures. fAcc: figures of which all
    questions are right. Once over rows with a picture, as VLMEvalKit has them, and once over all rows."""
    seen = answers.only(map(_is_seen, answers.rows))
    found: Shares = {}
    for part, question, ending in ((seen, _SEEN_QUESTION, " (with a picture)"), (answers, _QUESTION, "")):
        if part.rows:
            found[f"aAcc{ending}"] = _share(part.right_Qn.mean(axis=1))
        for name, units in (("qAcc", question.whole(part)), ("fAcc", _FIGURE.whole(part))):
            if units:
                found[f"{name}{ending}"] = _share(_all_right(part, units))
    return found | by_columns(answers, ["category", "subcategory"])


def dynamath(answers: Answers) -> Shares:
    """Of questions with all ten variants: the average, and the worst case: a question counts if all ten of
    its variants are right. Both also by subject and level."""
    whole = [places for places in answers.units("question_id").values() if len(places) == DYNAMATH_VARIANTS]
    first = [answers.rows[places[0]] for places in whole]
    found: Shares = {}
    for name, values in (
        ("average", np.array([answers.right_Qn[places].mean() for places in whole])),
        ("worst case", _all_right(answers, whole)),
    ):
        groups = {name: list(range(len(whole)))} if whole else {}
        for column in ("subject", "level"):
            for value in sorted({row[column] for row in first}):
                groups[f"{name}, {column}: {value}"] = [i for i, r in enumerate(first) if r[column] == value]
        found |= {group: _share(values[places]) for group, places in groups.items()}
    return found


def _by(*columns: str) -> Aggregate:
    return Aggregate(columns, partial(by_columns, columns=columns))


_SIZED = (_SEEN_QUESTION, _QUESTION, _FIGURE)
_SIZES = tuple(unit.size for unit in _SIZED)
AGGREGATES = {
    "chartqa": _by("part"),
    "dynamath": Aggregate(("question_id", "subject", "level"), dynamath),
    "hallusionbench": Aggregate((*HALLUSIONBENCH, *_SIZES), hallusionbench, _SIZES, _SIZED),
    "logicvista": _by("skill", "capability"),
    "mathverse": Aggregate(("problem_id", "version", "subject"), mathverse),
    "mathvision": _by("subject", "level"),
    "mathvista": _by("question_type", "task", "skills"),
    "mmmu": _by("discipline", "subject", "question_type"),
    "wemath": Aggregate(("problem_id", "part", "steps", "step"), wemath, ("steps",)),
}
