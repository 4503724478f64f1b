"""`actor/kl_to_start`: how far the policy has moved from where the run started, without keeping that model.

The starting policy answers a few training prompts once; those answers and their log-probs stay in the run's folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.policy import kl_to_start, kl_to_start_sums
from gmpo_vl.rollout.types import Group, Response


def kept_probe(prompts: PromptSet, path: Path, answer: Callable[[], list[Group]]) -> list[Group]:
    """What `path` keeps; first, where there is no such file, what `answer` gives: groups with `old_log_probs`.

    Prompts are found again by their rows' ids: another order of the data changes nothing.
    """
    if not path.exists():
        kept = [[g.prompt.example.id, [r.ids_T for r in g.responses], g.old_log_probs] for g in answer()]
        partial = path.with_name(f".partial_{path.name}")
        torch.save(kept, partial)
        os.replace(partial, path)
    return [
        Group(
            key=f"probe-{i}",
            prompt=prompts.encode_by_id(example_id),
            responses=[Response(ids_T, start_T, "", True, 0) for ids_T, start_T in zip(ids, log_probs)],
            old_log_probs=log_probs,
        )
        for i, (example_id, ids, log_probs) in enumerate(torch.load(path, weights_only=True))
    ]


def kl_of(probe: Sequence[Group], log_probs: Sequence[Sequence[torch.Tensor]]) -> float:
    """KL(start || policy) per token in nats (k3 on the starting policy's own answers).

    log_probs: the policy's, of every group, of every response (T,).
    """
    sums = torch.zeros(2, dtype=torch.float64)
    for group, of_group in zip(probe, log_probs):
        for start_T, log_probs_T in zip(group.old_log_probs, of_group):
            sums += kl_to_start_sums(log_probs_T[None], start_T[None], torch.ones_like(start_T[None]))
    return kl_to_start(sums)
