"""Two methods, or two checkpoints, on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmpo_vl.evaluation.results import counts, differing, in_words
from gmpo_vl.evaluation.statistics import Difference, two_level_difference
from gmpo_vl.runs import EvaluationFolder

_SAME = (
    "settings",
    "data",
    "template",
    "grader",
    "environment",
)  # parts of results.json that both sides must share
_MAY_DIFFER = {
    "settings.name",
    "settings.seed",
    "settings.about",
    "settings.data",
    "data.source",
    "data.pinned",
}


@dataclass(frozen=True)
class Compared:
    """b against a. a_SQ, b_SQ: float64 (seeds, questions), share of right answers. what: the questions are,
    which may be games."""

    questions: list[str]
    a_SQ: np.ndarray
    b_SQ: np.ndarray
    difference: Difference
    what: str = "question"

    @property
    def gains_Q(self) -> np.ndarray:
        """b - a of each question, mean over seeds."""
        return self.b_SQ.mean(axis=0) - self.a_SQ.mean(axis=0)


def compare(
    a: Sequence[EvaluationFolder], b: Sequence[EvaluationFolder], grader: str = "overall"
) -> Compared:
    """Finished evaluations, one folder a seed. grader: whose verdicts: `overall`, `strict` or `paper`.

    Raises ValueError where the evaluations asked other questions, or asked them otherwise.
    """
    folders = [*a, *b]
    stated = [folder.results() for folder in folders]
    conditions = [{key: results[key] for key in _SAME if key in results} for results in stated]
    for folder, found in zip(folders, conditions):
        apart = {k: v for k, v in differing(conditions[0], found).items() if k not in _MAY_DIFFER}
        if apart:
            raise ValueError(
                f"{folder.folder} cannot be compared with {folders[0].folder}: {in_words(apart)}"
            )
    shares = [_shares(folder, grader) for folder in folders]
    for folder, found in zip(folders, shares):
        if found.keys() != shares[0].keys():
            other = sorted(found.keys() ^ shares[0].keys())[:3]
            raise ValueError(
                f"{folder.folder} answered other questions than {folders[0].folder}: {', '.join(other)}"
            )
    questions = list(shares[0])
    table_SQ = np.array([[found[question] for question in questions] for found in shares])
    a_SQ, b_SQ = table_SQ[: len(a)], table_SQ[len(a) :]
    what = "game" if "episode" in stated[0] else "question"
    return Compared(questions, a_SQ, b_SQ, two_level_difference(a_SQ, b_SQ), what)


def _shares(folder: EvaluationFolder, grader: str) -> dict[str, float]:
    records = list(folder.samples())
    n = folder.results()["n"]
    questions = dict.fromkeys(record.id for record in records)
    return {key: c / n for key, c in zip(questions, counts(records, n, grader).tolist())}
