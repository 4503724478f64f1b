"""What a benchmark counts beyond the mean over its questions; a protocol's field `aggregate` names one.

Each is a pure function of the samples: which were right, and the rows' columns. A score over several
questions (all steps of a problem, all variants of a question) is counted pass by pass: pass k is the k-th
answer to every question, and with n answers a unit's value is the mean of n passes. Units of which a question
is missing, as under `limit`, are left out; `units` says how many are counted.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gmpo_vl.evaluation.statistics import ENOUGH, mean_share
from gmpo_vl.samples import SampleRecord

Shares = dict[str, dict[str, Any]]  # {name: {value, ci95 (None where there is none), units}}
BETWEEN = "; "  # the values of a question that has several in one column

MATHVERSE_VERSIONS = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
DYNAMATH_VARIANTS = 10


@dataclass(frozen=True)
class Answers:
    """rows: the columns of each question. right_Qn: bool (Q, n), was the n-th answer right."""

    rows: list[Mapping[str, Any]]
    right_Qn: np.ndarray

    def only(self, keep: Iterable[bool]) -> Answers:
        places = [i for i, kept in enumerate(keep) if kept]
        return Answers([self.rows[i] for i in places], self.right_Qn[places])

    def units(self, *columns: str) -> dict[tuple[Any, ...], list[int]]:
        """{values of the columns: the questions that have them}, in order."""
        found: dict[tuple[Any, ...], list[int]] = {}
        for i, row in enumerate(self.rows):
            found.setdefault(tuple(row[column] for column in columns), []).append(i)
        return found


@dataclass(frozen=True)
class Aggregate:
    """columns: what each row must have."""

    columns: tuple[str, ...]
    count: Callable[[Answers], Shares]


def aggregated(name: str, records: Sequence[SampleRecord], n: int) -> Shares:
    """The named shares of an evaluation. records: n per question, a question's together. Raises ValueError
    for a question without one of the columns."""
    rows = [record.meta for record in records[::n]]
    for record, row in zip(records[::n], rows):
        check_columns(name, record.id, row)
    right_Qn = np.array([record.correct for record in records], dtype=bool).reshape(-1, n)
    return AGGREGATES[name].count(Answers(list(rows), right_Qn))


def check_columns(name: str, question: str, row: Mapping[str, Any]) -> None:
    """Raises ValueError where a question lacks a column by which the aggregate counts."""
    if missing := [column for column in AGGREGATES[name].columns if column not in row]:
        raise ValueError(
            f"aggregate {name} counts by the column{'s'[: len(missing) > 1]} {', '.join(missing)}, which "
            f"question {question} does not have (a text of at most 200 characters, or a number)"
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


def _values(cell: Any) -> list[str]:
    return str(cell).split(BETWEEN)


# --- the benchmarks -----------------------------------------------------------------------------------------
def mathverse(answers: Answers) -> Shares:
    """The mean of the five versions' shares, over problems that have all five; and per version and subject.

    The mean does not count rows of the version Text Only, which is apart.
    """
    five = answers.only(row["version"] in MATHVERSE_VERSIONS for row in answers.rows)
    whole = [places for places in five.units("problem_id").values() if len(places) == len(MATHVERSE_VERSIONS)]
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
    steps = {  # the whole problem last
        problem: [i for _, i in sorted((answers.rows[i]["part"], i) for i in places)]
        for (problem,), places in answers.units("problem_id").items()
        if len(places) == int(answers.rows[places[0]]["steps"]) + 1
    }
    if not steps:
        return found
    all_Pn, any_Pn, whole_Pn = (
        np.array([pick(answers.right_Qn[places]) for places in steps.values()])
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


def hallusionbench(answers: Answers) -> Shares:
    """aAcc: answers. qAcc: questions that are right for all of their figures. fAcc: figures of which all
    questions are right. Once over all rows, and once over rows with a picture, as VLMEvalKit has them."""
    seen = answers.only(row["visual_input"] != "0" for row in answers.rows)
    found: Shares = {}
    for part, ending in ((answers, ""), (seen, " (with a picture)")):
        if not part.rows:
            continue
        figures = part.only(
            row["category"] != "VS" or row["figure_id"] != "0" for row in part.rows
        )  # there figure 0 is none
        of_set = ("category", "subcategory", "set_id")
        found[f"aAcc{ending}"] = _share(part.right_Qn.mean(axis=1))
        found[f"qAcc{ending}"] = _share(_all_right(part, part.units(*of_set, "question_id").values()))
        if figures.rows:
            found[f"fAcc{ending}"] = _share(_all_right(figures, figures.units(*of_set, "figure_id").values()))
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


_OF_A_SET = ("category", "subcategory", "set_id", "figure_id", "question_id", "visual_input")
AGGREGATES = {
    "chartqa": _by("part"),
    "dynamath": Aggregate(("question_id", "subject", "level"), dynamath),
    "hallusionbench": Aggregate(_OF_A_SET, hallusionbench),
    "logicvista": _by("skill", "capability"),
    "mathverse": Aggregate(("problem_id", "version", "subject"), mathverse),
    "mathvision": _by("subject", "level"),
    "mathvista": _by("question_type", "task", "skills"),
    "mmmu": _by("discipline", "subject", "question_type"),
    "wemath": Aggregate(("problem_id", "part", "steps", "step"), wemath),
}
