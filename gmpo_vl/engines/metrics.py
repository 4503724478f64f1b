"""A step's figures that come from its groups (docs/formats.md names them all)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from gmpo_vl.engines.collect import Collected
from gmpo_vl.policy import RolloutMismatch
from gmpo_vl.types import Group


def group_metrics(collected: Collected) -> dict[str, float]:
    """Rewards, lengths and shares over the groups that are trained on; `filter/*` over everything generated."""
    groups = collected.groups
    responses = [r for g in groups for r in g.responses]
    scores = [s for g in groups for s in g.scores]
    lengths = [len(r.ids_T) for r in responses]
    parts = dict.fromkeys(name for s in scores for name in s)  # of any response: a reward may leave some out
    metrics = {f"reward/{name}": mean([s[name] for s in scores if name in s]) for name in parts}
    metrics |= {
        "response_length/mean": mean(lengths),
        "response_length/max": float(max(lengths)),
        "response_length/min": float(min(lengths)),
        "prompt_length/mean": mean([len(g.prompt.ids_P) for g in groups]),
        "prompt_length/max": float(max(len(g.prompt.ids_P) for g in groups)),
        "rollout/truncated": mean([not r.finished for r in responses]),
        "group/zero_variance": mean([is_flat(g) for g in groups]),
        "filter/tries": float(collected.tries),
        "filter/generated_prompts": float(len(collected.generated)),
    }
    verdicts = [v for g in groups for v in g.verdicts if v is not None]
    if verdicts:
        metrics["verify/no_answer"] = mean([v.extracted is None for v in verdicts])
        metrics["verify/timeout"] = mean([v.outcome == "timeout" for v in verdicts])
    return metrics


def is_flat(group: Group) -> bool:
    """All responses got the same score: the group has no gradient."""
    return len({score["overall"] for score in group.scores}) == 1


def rollout_mismatch(groups: Sequence[Group]) -> dict[str, float]:
    """`rollout/mismatch_*`: how far the sampler's log-probs are from the trainer's.

    groups: those sampled by the policy whose log-probs `old_log_probs` holds.
    """
    mismatch = RolloutMismatch()
    for group in groups:
        old_GT = pad_sequence(group.old_log_probs, batch_first=True)
        rollout_GT = pad_sequence([r.rollout_log_probs_T for r in group.responses], batch_first=True)
        mask_GT = pad_sequence([torch.ones(len(r.ids_T)) for r in group.responses], batch_first=True)
        mismatch.add(old_GT, rollout_GT, mask_GT)
    return mismatch.result()


def mean(values: Sequence[float | bool]) -> float:
    return sum(values) / len(values) if values else 0.0
