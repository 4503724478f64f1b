"""Two methods, or two checkpoints, on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmpo_vl.evaluation.results import differing
from gmpo_vl.evaluation.statistics import Difference, two_level_difference
from gmpo_vl.evaluation.summary import counts
from gmpo_vl.runs import EvaluationFolder

FEW = 10  # below as many questions a bootstrap's interval is too narrow to be believed
_SAME = ("settings", "data", "template")  # parts of results.json that both sides must share
_MAY_DIFFER = {"settings.name", "settings.seed", "settings.about", "data.source", "data.pinned"}


@dataclass(frozen=True)
class Compared:
    """b against a. a_SQ, b_SQ: float64 (seeds, questions), share of right answers."""

    questions: list[str]
    a_SQ: np.ndarray
    b_SQ: np.ndarray
    difference: Difference

    @property
    def gains_Q(self) -> np.ndarray:
        """b - a of each question, mean over seeds."""
        return self.b_SQ.mean(axis=0) - self.a_SQ.mean(axis=0)


def compare(
    a: Sequence[EvaluationFolder], b: Sequence[EvaluationFolder], grader: str = "overall"
) -> Compared:
    """Finished evaluations of a and of b, one folder a seed. grader: whose verdicts: `overall`, `strict` or `paper`.

    Raises ValueError where the evaluations asked other questions, or asked them otherwise.
    """
    folders = [*a, *b]
    first = _conditions(folders[0].results())
    for folder in folders[1:]:
        said = [
            d
            for d in differing(first, _conditions(folder.results()))
            if d.split(" is ")[0] not in _MAY_DIFFER
        ]
        if said:
            raise ValueError(
                f"{folder.folder} cannot be compared with {folders[0].folder}: {'; '.join(said)}"
            )
    shares = [_shares(folder, grader) for folder in folders]
    questions = list(shares[0])
    for folder, found in zip(folders, shares):
        if found.keys() != shares[0].keys():
            other = sorted(found.keys() ^ shares[0].keys())[:3]
            raise ValueError(
                f"{folder.folder} answered other questions than {folders[0].folder}: {', '.join(other)}"
            )
    table_SQ = np.array([[found[question] for question in questions] for found in shares])
    a_SQ, b_SQ = table_SQ[: len(a)], table_SQ[len(a) :]
    return Compared(questions, a_SQ, b_SQ, two_level_difference(a_SQ, b_SQ))


def _conditions(results: dict[str, Any]) -> dict[str, Any]:
    return {key: results[key] for key in _SAME}


def _shares(folder: EvaluationFolder, grader: str) -> dict[str, float]:
    records = list(folder.samples())
    n = folder.results()["n"]
    return {r.id: c / n for r, c in zip(records[::n], counts(records, n, grader).tolist())}


def describe(compared: Compared, shown: int = 5) -> str:
    """What came out, for a person."""
    d, gains_Q = compared.difference, compared.gains_Q
    e, seeds = d.estimate, (len(compared.a_SQ), len(compared.b_SQ))
    a, b = compared.a_SQ.mean(), compared.b_SQ.mean()
    won, lost = int((gains_Q > 0).sum()), int((gains_Q < 0).sum())
    how = "question and seed" if d.paired_by_seed and seeds[0] > 1 else "question"
    lines = [
        f"a {100 * a:.1f}   b {100 * b:.1f}   {len(gains_Q)} questions, {seeds[0]} and {seeds[1]} runs",
        f"b - a: {100 * e.value:+.1f} points, 95% interval {100 * e.low:+.1f} to {100 * e.high:+.1f}, p = {d.p_value:.2g}, "
        f"paired by {how}",
        f"       unpaired it would be {100 * d.unpaired.low:+.1f} to {100 * d.unpaired.high:+.1f} (questions only)",
        f"questions: b better {won}, a better {lost}, equal {len(gains_Q) - won - lost}",
    ]
    order = np.argsort(gains_Q, kind="stable")
    for title, places in (("most won", order[::-1]), ("most lost", order)):
        sign = 1 if title == "most won" else -1
        named = [i for i in places[:shown] if sign * gains_Q[i] > 0]
        if named:
            lines.append(
                f"  {title}: " + ", ".join(f"{compared.questions[i]} {100 * gains_Q[i]:+.0f}" for i in named)
            )
    if len(gains_Q) < FEW:
        lines.append(
            f"too few questions: {len(gains_Q)} say next to nothing about others; ask at least {FEW}, better hundreds"
        )
    return "\n".join([*lines, _about_seeds(d, seeds)])


def _about_seeds(d: Difference, seeds: tuple[int, int]) -> str:
    if d.seed_deviation is None:
        return (
            "One training seed on a side: this compares two checkpoints, not two methods. Another seed of the same method "
            "can differ as much; train several and give them all to --a and --b."
        )
    needed = (
        "a difference of 0 cannot be found with any number"
        if d.seeds_needed is None
        else (f"to find this difference 4 times in 5 takes {d.seeds_needed} seeds a side")
    )
    rough = "" if min(seeds) >= 5 else f" (with {min(seeds)} seeds both figures are rough)"
    return f"seeds: the difference varies by {100 * d.seed_deviation:.1f} points (standard deviation); {needed}{rough}"
