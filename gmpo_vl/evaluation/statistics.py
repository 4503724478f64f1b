"""Numbers with their error bars. The unit is the question: samples of one question are not independent.

`values_Q` holds one number per question, for Pass@1 the share c_i / n of its n samples that were right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over questions and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def percent(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * self.half_width:.1f}"


def mean_over_questions(values_Q: np.ndarray, seed: int = 0) -> Estimate:
    """Mean and 95% percentile interval of a bootstrap over questions."""
    values_Q = np.asarray(values_Q, dtype=np.float64)
    if len(values_Q) == 0:
        raise ValueError("there are no questions to average over")
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    # In blocks: the index table of 10,000 resamples of a large benchmark would be gigabytes.
    block = max(1, 10_000_000 // len(values_Q))
    for start in range(0, RESAMPLES, block):
        count = min(block, RESAMPLES - start)
        index = generator.integers(0, len(values_Q), (count, len(values_Q)))
        means[start : start + count] = values_Q[index].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values_Q.mean()), float(low), float(high))


def paired_difference(before_Q: np.ndarray, after_Q: np.ndarray, seed: int = 0) -> Estimate:
    """after - before with its interval, the questions paired: what they share cancels out.

    Raises ValueError unless both hold the same questions in the same order (one value each).
    """
    if len(before_Q) != len(after_Q):
        raise ValueError(
            f"{len(before_Q)} questions before, {len(after_Q)} after: a paired difference needs the same"
        )
    return mean_over_questions(np.asarray(after_Q) - np.asarray(before_Q), seed)
