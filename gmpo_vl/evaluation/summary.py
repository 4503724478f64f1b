"""From samples to figures: what results.json says about them (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmpo_vl.evaluation.grading import PROFILES
from gmpo_vl.evaluation.statistics import Estimate, majority_at_k, mean_share, pass_at_k
from gmpo_vl.samples import SampleRecord
from gmpo_vl.verify import parse_gold
from gmpo_vl.verify.equivalence import clusters


def figures(records: Sequence[SampleRecord], n: int) -> dict[str, Any]:
    """Everything that is counted. `records`: n per question, a question's together."""
    correct_Q = counts(records, n)
    estimate = mean_share(correct_Q / n)
    found: dict[str, Any] = {
        "pass@1": estimate.value,
        "ci95": [estimate.low, estimate.high],
        "questions": len(correct_Q),
        "n": n,
        "truncated": float(np.mean([not r.finished for r in records])),
        "no_answer": float(np.mean([r.extracted is None for r in records])),
        "timeouts": sum(r.outcome == "timeout" for r in records),
        "mean_length": float(np.mean([r.length for r in records])),
    }
    if n > 1:
        ks = [k for k in (2, 4, 8, 16, 32, 64, 128, 256) if k < n] + [n]
        found["pass@k"] = {str(k): _stated(mean_share(pass_at_k(correct_Q, n, k))) for k in ks}
        votes = _votes(records, n)
        found["maj@k"] = {str(k): _stated(mean_share(_majority_Q(records, votes, k))) for k in ks}
    if all(profile in records[0].reward for profile in PROFILES):
        found["graders"] = {
            profile: _stated(mean_share(counts(records, n, profile) / n)) for profile in PROFILES
        }
        found["disputed"] = float(np.mean([r.reward["strict"] != r.reward["paper"] for r in records]))
    return found


def counts(records: Sequence[SampleRecord], n: int, profile: str = "overall") -> np.ndarray:
    """int64 (Q,): right samples of each question, by the grader that counts or by one profile."""
    if len(records) == 0 or len(records) % n != 0:
        raise ValueError(f"{len(records)} samples are not {n} for each question")
    right = [r.correct if profile == "overall" else bool(r.reward[profile]) for r in records]
    return np.array(right, dtype=np.int64).reshape(-1, n).sum(axis=1)


def _votes(records: Sequence[SampleRecord], n: int) -> list[list[int | None]]:
    """What each sample of each question votes for: answers that are the same, however they are written, are one vote."""
    return [
        clusters([r.extracted for r in records[at : at + n]], parse_gold(records[at].gold).choices)
        for at in range(0, len(records), n)
    ]


def _majority_Q(records: Sequence[SampleRecord], votes: list[list[int | None]], k: int) -> np.ndarray:
    """float (Q,): maj@k of each question."""
    right = [r.correct for r in records]
    n = len(votes[0])
    return np.array([majority_at_k(vote, right[q * n : (q + 1) * n], k) for q, vote in enumerate(votes)])


def _stated(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "ci95": [estimate.low, estimate.high]}
