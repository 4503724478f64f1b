"""From samples to figures: what results.json says about them (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmpo_vl.evaluation.grading import PROFILES
from gmpo_vl.evaluation.statistics import Estimate, majority_at_k, mean_share, pass_at_k
from gmpo_vl.runs import SampleRecord
from gmpo_vl.verify.normalise import normalise


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
        found["maj@k"] = {str(k): _stated(mean_share(_majority_Q(records, n, k))) for k in ks}
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


def _majority_Q(records: Sequence[SampleRecord], n: int, k: int) -> np.ndarray:
    votes = [None if r.extracted is None else normalise(r.extracted).replace(" ", "") for r in records]
    right = [r.correct for r in records]
    return np.array([majority_at_k(votes[i : i + n], right[i : i + n], k) for i in range(0, len(records), n)])


def _stated(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "ci95": [estimate.low, estimate.high]}
