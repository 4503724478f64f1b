"""Numbers with error bars. The unit is the question: samples of one question are not independent.

`values_Q` holds one number per question, for Pass@1 the share c_i / n of its n samples that were right.
Intervals are 95%: percentiles of 10,000 bootstrap resamples of the questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

RESAMPLES = 10_000
ENOUGH = 10  # questions of a kind, for an interval
_BLOCK = 200_000  # entries of an index table held at once: what fits into a cache
_EQUAL = 1e-12  # gains closer than this differ by rounding only


@dataclass(frozen=True)
class Estimate:
    """A mean over questions and its 95% interval."""

    value: float
    low: float
    high: float


def mean_over_questions(values_Q: np.ndarray, seed: int = 0) -> Estimate:
    """Mean and 95% percentile interval of a bootstrap over questions."""
    values_Q = np.asarray(values_Q, dtype=np.float64)
    if len(values_Q) == 0:
        raise ValueError("there are no questions to average over")
    return _estimate(float(values_Q.mean()), _resampled_means(values_Q, np.random.default_rng(seed)))


def mean_share(shares_Q: np.ndarray, seed: int = 0) -> Estimate:
    """The mean of shares of right samples, with its interval.

    Where all shares are 1, or all 0, a bootstrap would say ± 0. There the interval ends where that would be
    seen in 2.5% of samples of so many questions (Clopper and Pearson 1934).
    """
    shares_Q = np.asarray(shares_Q, dtype=np.float64)
    estimate = mean_over_questions(shares_Q, seed)
    bound = 1 - 0.025 ** (1 / len(shares_Q))
    if (shares_Q == 0).all():
        return Estimate(0.0, 0.0, bound)
    if (shares_Q == 1).all():
        return Estimate(1.0, 1 - bound, 1.0)
    return estimate


def paired_difference(before_Q: np.ndarray, after_Q: np.ndarray, seed: int = 0) -> Estimate:
    """after - before with its interval, the questions paired: what they share cancels out.

    Both hold the same questions in the same order. Raises ValueError where their numbers differ. See also
    `_where_all_gain_the_same`.
    """
    if len(before_Q) != len(after_Q):
        raise ValueError(
            f"{len(before_Q)} questions before, {len(after_Q)} after: a paired difference needs the same"
        )
    gains_Q = np.asarray(after_Q) - np.asarray(before_Q)
    estimate = mean_over_questions(gains_Q, seed)
    return _where_all_gain_the_same(estimate, len(gains_Q)) if np.ptp(gains_Q) < _EQUAL else estimate


def unpaired_difference(before_Q: np.ndarray, after_Q: np.ndarray, seed: int = 0) -> Estimate:
    """after - before as if different questions were asked, as in a comparison of published numbers."""
    before_Q, after_Q = np.asarray(before_Q, dtype=np.float64), np.asarray(after_Q, dtype=np.float64)
    generator = np.random.default_rng(seed)
    before, after = (_resampled_means(values, generator) for values in (before_Q, after_Q))
    estimate = _estimate(float(after_Q.mean() - before_Q.mean()), after - before)
    if max(np.ptp(before_Q), np.ptp(after_Q)) < _EQUAL:
        estimate = _where_all_gain_the_same(estimate, min(len(before_Q), len(after_Q)))
    return estimate


# --- runs of several seeds ----------------------------------------------------------------------------------
def mean_over_seeds(values_S: np.ndarray) -> Estimate:
    """Mean of a number per run and Student's 95% interval +- t(0.975, S - 1) s / sqrt(S), over S >= 2 seeds.

    A bootstrap of 3 to 5 numbers would be too narrow. This assumes that the numbers are normally distributed.
    """
    values_S = np.asarray(values_S, dtype=np.float64)
    if len(values_S) < 2:
        raise ValueError(f"{len(values_S)} seeds: an interval over seeds needs at least 2")
    mean, seeds = float(values_S.mean()), len(values_S)
    half = t_quantile(seeds - 1) * float(values_S.std(ddof=1)) / seeds**0.5
    return Estimate(mean, mean - half, mean + half)


@cache
def t_quantile(freedom: int, chance: float = 0.975) -> float:
    """The t below which Student's distribution has `chance`, at least 0.5."""
    from mpmath import betainc

    low, high = 0.0, 1.0
    for _ in range(60):  # bisection: I_x rises with x, see `t_tail`
        x = (low + high) / 2
        below = betainc(freedom / 2, 0.5, 0, x, regularized=True) < 2 * (1 - chance)
        low, high = (x, high) if below else (low, x)
    return (freedom * (1 - low) / low) ** 0.5


def t_tail(t: float, freedom: int) -> float:
    """P(T > t) of Student's distribution: for t >= 0 it is I_x(freedom / 2, 1 / 2) / 2 at
    x = freedom / (freedom + t^2)."""
    from mpmath import betainc

    half = float(betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True)) / 2
    return half if t >= 0 else 1 - half


@dataclass(frozen=True)
class MeasuredDifference:
    """b - a with its standard error, whose ratio has Student's distribution with `freedom` degrees.

    The interval's ends and every p-value are of this one distribution, so that they never contradict.
    """

    value: float
    error: float
    freedom: int

    def interval(self, share: float) -> tuple[float, float]:
        half = t_quantile(self.freedom, (1 + share) / 2) * self.error
        return self.value - half, self.value + half

    def p_value(self) -> float:
        """Two-sided, of a true difference of 0."""
        return 2 * t_tail(abs(self.value) / self.error, self.freedom)

    def p_equivalence(self, margin: float) -> float:
        """Of a true difference of at least `margin`: two one-sided tests (Schuirmann 1987), the larger p.

        It is at most 0.05 where the 90% interval lies inside +- margin.
        """
        return t_tail((margin - abs(self.value)) / self.error, self.freedom)

    def detectable(self, level: float = 0.05) -> float:
        """The true difference that a two-sided test at `level` finds 4 times in 5, at this standard error."""
        return detectable(self.error, self.freedom, level)


def detectable(error: float, freedom: int, level: float = 0.05) -> float:
    """(t(1 - level/2) + t(0.8)) error: an approximation of the noncentral t, a little large for few seeds."""
    return (t_quantile(freedom, 1 - level / 2) + t_quantile(freedom, 0.8)) * error


def difference_over_seeds(differences_S: np.ndarray) -> MeasuredDifference:
    """The mean of a difference per seed, S >= 2 of them; an error of 0 is taken for the smallest number."""
    values_S = np.asarray(differences_S, dtype=np.float64)
    error = float(values_S.std(ddof=1)) / len(values_S) ** 0.5
    return MeasuredDifference(float(values_S.mean()), max(error, np.finfo(float).tiny), len(values_S) - 1)


def crossed_difference(a_SQ: np.ndarray, b_SQ: np.ndarray) -> MeasuredDifference:
    """b - a, where seeds and questions are both samples: others could have been drawn.

    a_SQ, b_SQ: float64 (S >= 2 seeds, Q >= 2 questions), seed i with seed i. The variance of the mean is
    estimated without bias as s_S^2 / S + s_Q^2 / Q - s_E^2 / (S Q): s_S^2 is the variance of the seeds' mean
    differences, s_Q^2 of the questions', s_E^2 of what is left in a cell, which stands in both of the others.
    The bootstrap that draws seeds and questions counts s_E^2 three times (Owen 2007, Pigeonhole bootstrap)
    and is too narrow for few seeds. Degrees of freedom: S - 1, too few where questions matter, so that the
    interval errs to the wide side. The error is no smaller than what one answer makes, 1 / (S Q).
    """
    gains_SQ = np.asarray(b_SQ, dtype=np.float64) - np.asarray(a_SQ, dtype=np.float64)
    seeds, questions = gains_SQ.shape
    if min(seeds, questions) < 2:
        raise ValueError(f"{seeds} seeds and {questions} questions: their spread needs 2 of each")
    mean, of_seeds_S1, of_questions_Q = gains_SQ.mean(), gains_SQ.mean(1, keepdims=True), gains_SQ.mean(0)
    left_SQ = gains_SQ - of_seeds_S1 - of_questions_Q + mean
    by_seed = of_seeds_S1.var(ddof=1) / seeds
    by_question = of_questions_Q.var(ddof=1) / questions
    left = (left_SQ**2).sum() / ((seeds - 1) * (questions - 1)) / (seeds * questions)
    variance = max(by_seed + by_question - left, by_seed, by_question)
    error = max(float(variance) ** 0.5, 1 / (seeds * questions))
    return MeasuredDifference(float(mean), error, seeds - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number m: the k-th smallest times m - k + 1, at most 1, and no smaller than
    the one before. The chance of any false finding among them stays at the level (Holm 1979).
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


# --- two methods --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Difference:
    """b - a.

    paired_by_seed: run i of a was compared with run i of b. seed_deviation: standard deviation of the
    difference between seeds; seeds_needed: for a power of 80% at this difference. None with one seed a side.
    """

    estimate: Estimate
    p_value: float
    unpaired: Estimate
    paired_by_seed: bool
    seed_deviation: float | None
    seeds_needed: int | None


def two_level_difference(a_SQ: np.ndarray, b_SQ: np.ndarray, seed: int = 0) -> Difference:
    """b - a over seeds and questions: a bootstrap draws seeds, then questions, the same for both sides.

    a_SQ, b_SQ: float64 (seeds, questions), the same questions in the same order. With as many seeds on both
    sides, seed i is compared with seed i (same data order, same initial state); otherwise each side draws its
    own. The p-value is two-sided, from the share of resamples on the other side of 0. It is no smaller than a
    sign test's could be with as many unequal questions. See also `_where_all_gain_the_same`.
    """
    a_SQ, b_SQ = (np.asarray(values, dtype=np.float64) for values in (a_SQ, b_SQ))
    if a_SQ.shape[1] != b_SQ.shape[1] or a_SQ.shape[1] == 0:
        raise ValueError(
            f"{a_SQ.shape[1]} questions on one side, {b_SQ.shape[1]} on the other: they must be the same"
        )
    paired = len(a_SQ) == len(b_SQ)

    generator = np.random.default_rng(seed)
    if len(a_SQ) == len(b_SQ) == 1:
        differences = _resampled_means(b_SQ[0] - a_SQ[0], generator)
    else:
        differences = _two_level_means(a_SQ, b_SQ, paired, generator)
    value = float(b_SQ.mean() - a_SQ.mean())
    gains_Q = b_SQ.mean(axis=0) - a_SQ.mean(axis=0)
    estimate = _estimate(value, differences)
    if np.ptp(gains_Q) < _EQUAL:
        estimate = _where_all_gain_the_same(estimate, len(gains_Q))
    sign_test = 2.0 ** (1 - int((abs(gains_Q) > _EQUAL).sum()))
    smaller = min((differences <= 0).sum(), (differences >= 0).sum())
    deviation = _seed_deviation(a_SQ.mean(axis=1), b_SQ.mean(axis=1), paired)
    return Difference(
        estimate,
        min(1.0, max(sign_test, 2 * (int(smaller) + 1) / (RESAMPLES + 1))),
        unpaired_difference(a_SQ.mean(axis=0), b_SQ.mean(axis=0), seed),
        paired,
        deviation,
        None if deviation is None else seeds_for_power(value, deviation),
    )


def mean_difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> Estimate:
    """The mean over benchmarks of b - a, each with the same weight, and its interval.

    pairs: (a_SQ, b_SQ) of each benchmark, float64 (seeds, questions), with the same seeds in all. A resample
    draws training seeds, once for all benchmarks since a seed is one trained model, and then each benchmark's
    questions. The benchmarks are taken as they are: others could have been chosen, and that is not in it.
    """
    pairs = [(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)) for a, b in pairs]
    generator = np.random.default_rng(seed)
    of_a, of_b = (len(side) for side in pairs[0])
    weights_a = _seed_weights(RESAMPLES, of_a, generator)
    weights_b = weights_a if of_a == of_b else _seed_weights(RESAMPLES, of_b, generator)
    total, low, high = np.zeros(RESAMPLES), 0.0, 0.0
    for a_SQ, b_SQ in pairs:
        gains_Q = b_SQ.mean(axis=0) - a_SQ.mean(axis=0)
        if of_a == of_b == 1:
            total += _resampled_means(gains_Q, generator)
        else:
            for rows in _blocks(a_SQ.shape[1]):
                total[rows] += _drawn_means(weights_b[rows] @ b_SQ - weights_a[rows] @ a_SQ, generator)
        if np.ptp(gains_Q) < _EQUAL:  # no resample differs, so what may be hidden is added to the ends
            mean = float(gains_Q.mean())
            ends = _where_all_gain_the_same(Estimate(mean, mean, mean), len(gains_Q))
            low, high = low + ends.low - mean, high + ends.high - mean
    value = float(np.mean([b_SQ.mean() - a_SQ.mean() for a_SQ, b_SQ in pairs]))
    estimate = _estimate(value, total / len(pairs))
    return Estimate(value, estimate.low + low / len(pairs), estimate.high + high / len(pairs))


def _where_all_gain_the_same(estimate: Estimate, questions: int) -> Estimate:
    """The interval where every question's gain is the same, so that no resample differs from another.

    Of all questions there could be, a share of at most 1 - 0.025^(1/Q) may be of another kind: a larger one
    would have shown up in 97.5% of samples of Q (Clopper and Pearson 1934). At the interval's ends those gain
    -1, or 1.
    """
    gain, other = estimate.value, 1 - 0.025 ** (1 / questions)
    low, high = gain - other * (gain + 1), gain + other * (1 - gain)
    return Estimate(gain, min(estimate.low, low), max(estimate.high, high))


def seeds_for_power(difference: float, deviation: float) -> int | None:
    """Seeds a side at which a two-sided test at 5% finds `difference` 4 times in 5; None for a difference of
    0.

    deviation: standard deviation over seeds of the (paired) difference. This is the normal approximation with
    Guenther's (1981) correction for the t distribution.
    """
    if difference == 0:
        return None
    z_test, z_power = 1.959964, 0.841621
    return max(2, int(np.ceil(((z_test + z_power) * deviation / difference) ** 2 + z_test**2 / 2)))


def _seed_deviation(a_S: np.ndarray, b_S: np.ndarray, paired: bool) -> float | None:
    if min(len(a_S), len(b_S)) < 2:
        return None
    return float((b_S - a_S).std(ddof=1) if paired else np.hypot(a_S.std(ddof=1), b_S.std(ddof=1)))


def _two_level_means(
    a_SQ: np.ndarray, b_SQ: np.ndarray, paired: bool, generator: np.random.Generator
) -> np.ndarray:
    """float64 (RESAMPLES,): mean differences over drawn seeds and drawn questions."""
    means = np.empty(RESAMPLES)
    for rows in _blocks(a_SQ.shape[1]):
        count = rows.stop - rows.start
        weights_a = _seed_weights(count, len(a_SQ), generator)
        weights_b = weights_a if paired else _seed_weights(count, len(b_SQ), generator)
        means[rows] = _drawn_means(weights_b @ b_SQ - weights_a @ a_SQ, generator)
    return means


def _seed_weights(rows: int, seeds: int, generator: np.random.Generator) -> np.ndarray:
    """float64 (rows, seeds): how often each seed was drawn, as shares."""
    return generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=rows) / seeds


def _drawn_means(gains_RQ: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """float64 (R,): of every row the mean over as many questions, drawn with replacement."""
    index_RQ = generator.integers(0, gains_RQ.shape[1], gains_RQ.shape)
    return np.take_along_axis(gains_RQ, index_RQ, axis=1).mean(axis=1)


def _resampled_means(values_Q: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """float64 (RESAMPLES,): means of as many questions, drawn with replacement.

    Shares of n samples have few distinct values. How often each is drawn is then one multinomial draw.
    """
    questions = len(values_Q)
    distinct, frequency = np.unique(values_Q, return_counts=True)
    if 8 * len(distinct) <= questions:
        return generator.multinomial(questions, frequency / questions, RESAMPLES) @ distinct / questions
    means = np.empty(RESAMPLES)
    for rows in _blocks(questions):
        index_RQ = generator.integers(0, questions, (rows.stop - rows.start, questions))
        means[rows] = values_Q[index_RQ].mean(axis=1)
    return means


def _blocks(questions: int) -> Iterator[slice]:
    """Resamples whose index tables fit into memory."""
    size = max(1, _BLOCK // questions)
    return (slice(start, min(start + size, RESAMPLES)) for start in range(0, RESAMPLES, size))


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
