"""Two graders' verdicts on the same answers: where they part, and what that makes of the mean.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np

from gmpo_vl.evaluation.statistics import Estimate, mean_share, paired_difference
from gmpo_vl.samples import SampleRecord

Grader = Callable[[SampleRecord], float]  # what it says of an answer, 0 to 1
RIGHT = 0.5  # a score from which on it calls an answer right


@dataclass(frozen=True)
class Table:
    """Answers that both call right, the first alone, the second alone, and neither."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def answers(self) -> int:
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def agreement(self) -> float:
        return (self.both + self.neither) / self.answers

    @property
    def kappa(self) -> float | None:
        """(p_o - p_e) / (1 - p_e), p_e being the agreement by chance (Cohen 1960). None where p_e is 1: each
        calls all answers the same."""
        first, second = ((self.both + only) / self.answers for only in (self.only_first, self.only_second))
        chance = first * second + (1 - first) * (1 - second)
        return None if chance == 1 else (self.agreement - chance) / (1 - chance)


@dataclass(frozen=True)
class Compared:
    """first, second: each one's mean over questions. difference: second - first, paired by question."""

    questions: int
    table: Table
    first: Estimate
    second: Estimate
    difference: Estimate


def table_of(records: Sequence[SampleRecord], first: Grader, second: Grader) -> Table:
    right = [(first(record) >= RIGHT, second(record) >= RIGHT) for record in records]
    return Table(
        *(right.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False)))
    )


def compared(records: Sequence[SampleRecord], first: Grader, second: Grader) -> Compared:
    """records: at least one, a question's together; all have a verdict of both."""
    groups = [list(group) for _, group in groupby(records, attrgetter("id"))]
    first_Q, second_Q = (
        np.array([np.mean([grader(record) for record in group]) for group in groups])
        for grader in (first, second)
    )
    means, difference = (mean_share(first_Q), mean_share(second_Q)), paired_difference(first_Q, second_Q)
    return Compared(len(groups), table_of(records, first, second), *means, difference)


def shown(estimate: Estimate) -> dict:
    """As results.json has it."""
    return {"value": estimate.value, "ci95": [estimate.low, estimate.high]}
