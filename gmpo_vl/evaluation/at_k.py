"""Several answers to a question: what the best of k, the worst of k and the most frequent of k are worth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np

_SUBSETS = 256  # drawn per k for maj@k where k < n


def pass_at_k(correct_Q: np.ndarray, n: int, k: int) -> np.ndarray:
    """float64 (Q,): chance that one of k samples, drawn from the n without replacement, is right.

    1 - C(n-c, k) / C(n, k), unbiased for k <= n (Chen et al. 2021, Eq. 1). correct_Q: int (Q,), the c.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs 1 to n={n} samples")
    chance_c = np.array([1 - comb(n - c, k) / comb(n, k) for c in range(n + 1)])
    return chance_c[np.asarray(correct_Q)]


def all_at_k(correct_Q: np.ndarray, n: int, k: int) -> np.ndarray:
    """float64 (Q,): chance that all of k samples, drawn from the n without replacement, are right: the worst
    case of k answers, C(c, k) / C(n, k). correct_Q: int (Q,), the c.
    """
    if not 1 <= k <= n:
        raise ValueError(f"all@{k} needs 1 to n={n} samples")
    chance_c = np.array([comb(c, k) / comb(n, k) for c in range(n + 1)])
    return chance_c[np.asarray(correct_Q)]


def majority_at_k(answers: Sequence[int | None], correct: Sequence[bool], k: int, seed: int = 0) -> float:
    """Chance that the most frequent answer among k of a question's samples is right. Ties share the vote.

    answers: which answer each sample gave (`verify.equivalence.clusters`); None has no vote. An answer is
    right where most of its samples are, and counts half where as many are as are not. Exact for k = n; for
    smaller k the mean over 256 seeded subsets.
    """
    n = len(answers)
    names = sorted({answer for answer in answers if answer is not None})
    if not names:
        return 0.0
    votes_nC = np.array([[answer == name for name in names] for answer in answers], dtype=np.int64)
    signs_n1 = 2 * np.asarray(correct, dtype=np.int64)[:, None] - 1
    right_C = (1 + np.sign((votes_nC * signs_n1).sum(axis=0))) / 2
    if k == n:
        votes_RC = votes_nC.sum(axis=0, keepdims=True)
    else:
        votes_RC = _subsets(n, k, seed) @ votes_nC
    most_R1 = votes_RC.max(axis=1, keepdims=True)
    leads_RC = (votes_RC == most_R1) & (most_R1 > 0)
    leaders_R = np.maximum(leads_RC.sum(axis=1), 1)
    return float(((leads_RC * right_C).sum(axis=1) / leaders_R).mean())


@lru_cache(maxsize=64)
def _subsets(n: int, k: int, seed: int) -> np.ndarray:
    """float64 (_SUBSETS, n), 0 or 1: which of n samples each drawn subset of k holds. The same for every
    question, so drawn once."""
    order_Rn = np.random.default_rng(seed).random((_SUBSETS, n)).argsort(axis=1)
    chosen_Rn = np.zeros((_SUBSETS, n))
    np.put_along_axis(chosen_Rn, order_Rn[:, :k], 1.0, axis=1)
    return chosen_Rn
