"""`actor/kl_to_start`: how far the policy has moved from where the run started, without keeping that model.

The starting policy answers a few training prompts once. Answers and log-probs stay in the run's folder.
"""

from __future__ import annotations

import torch

from gmpo_vl.engines.checkpoint import Progress
from gmpo_vl.engines.session import Session
from gmpo_vl.policy import kl_to_start, kl_to_start_sums
from gmpo_vl.runs import Run
from gmpo_vl.setup import sampling_of
from gmpo_vl.storage.files import whole_file
from gmpo_vl.storage.manifest import measured
from gmpo_vl.storage.tensors import read_saved
from gmpo_vl.types import Group, Response


def kl_from_start(s: Session) -> float:
    """KL(start || policy) per token in nats (k3 on the starting policy's own answers)."""
    probe = probe_of(s)
    sums = torch.zeros(2, dtype=torch.float64)
    for group, of_group in zip(probe, s.engine.log_probs(probe).of):
        for start_T, log_probs_T in zip(group.old_log_probs, of_group):
            sums += kl_to_start_sums(log_probs_T[None], start_T[None], torch.ones_like(start_T[None]))
    return kl_to_start(sums)


def probe_of(s: Session) -> list[Group]:
    """The starting policy's answers, with `old_log_probs`: sampled before the run's first update, then read.

    Prompts are found again by their rows' ids: another order of the data changes nothing. Raises ValueError
    naming the file where it cannot be read.
    """
    if s.probe is None:
        path = s.run.probe_file
        if not path.exists():
            kept = [
                [g.prompt.example.id, [r.ids_T for r in g.responses], g.old_log_probs] for g in _answers(s)
            ]
            with whole_file(path) as partial:
                torch.save(kept, partial)
        s.probe = [
            Group(
                key=f"probe-{i}",
                prompt=s.prompts.encode_by_id(example_id),
                responses=[Response(ids_T, start_T, "", True, 0) for ids_T, start_T in zip(ids, log_probs)],
                old_log_probs=log_probs,
            )
            for i, (example_id, ids, log_probs) in enumerate(read_saved(path))
        ]
        s.progress.probe = measured(path).sha256
    return s.probe


def _answers(s: Session) -> list[Group]:
    asked = s.prompts.encode(s.order.take(0, min(s.config.trainer.kl_to_start_prompts, len(s.prompts))))
    with s.engine.sampler():
        groups = s.sample(asked, [-1] * len(asked), sampling_of(s.config))  # no training step has position -1
    for group, log_probs in zip(groups, s.engine.log_probs(groups).of):
        group.old_log_probs = log_probs
    return groups


def check_probe(run: Run, progress: Progress, prompts: int) -> None:
    """Raise ValueError where probe.pt is not the one that the run has measured against, or has not as many
    prompts as are asked for.

    A checkpoint of an earlier version does not say: the file is taken as it is, and told.
    """
    path = run.probe_file
    way_out = "Put it back from a copy, or set trainer.kl_to_start_freq=-1 to go on without actor/kl_to_start"
    if not path.is_file():
        done = [line for line in run.read_metrics() if line["step"] <= progress.step]
        measured_before = any(line.get("actor/kl_to_start") is not None for line in done)
        if progress.probe is not None or measured_before:
            raise ValueError(
                f"{path} is missing: the run's actor/kl_to_start is measured on the answers in it. {way_out}"
            )
        return
    if progress.probe is None:
        print(f"{path}: the checkpoint does not say what was in it, it is taken as it is", flush=True)
    elif measured(path).sha256 != progress.probe:
        raise ValueError(
            f"{path} is not what this run measured actor/kl_to_start on (its sha256 is another). {way_out}"
        )
    try:
        found = len(read_saved(path))
    except ValueError as error:
        raise ValueError(f"{error}. {way_out}") from error
    if found != prompts:
        raise ValueError(
            f"{path} has the starting answers to {found} prompts, and trainer.kl_to_start_prompts asks for "
            f"{prompts}: they are made when a run begins. Write {found}, or begin another run"
        )
