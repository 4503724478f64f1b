"""A run's steps on the EasyR1 engine: generate, verify, advantages, log-probs, update, log, save.

The figures, files and the order of things are those of engine local (engines/local/trainer.py).
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from gmpo_vl.batching.planning import rows_of, tokens_saved
from gmpo_vl.config import Config, ConfigError
from gmpo_vl.data.order import EpochOrder
from gmpo_vl.data.types import Prompt
from gmpo_vl.engines.easyr1.checkpoint import save_checkpoint
from gmpo_vl.engines.easyr1.limits import easyr1_loss
from gmpo_vl.engines.easyr1.trainer import GMPOTrainer
from gmpo_vl.engines.local.ahead import Ahead
from gmpo_vl.engines.local.checkpoint import Progress, mark_best, prune_checkpoints
from gmpo_vl.engines.local.collect import Collected, collect_groups
from gmpo_vl.engines.local.loggers import Logger
from gmpo_vl.engines.local.metrics import group_metrics, rollout_mismatch
from gmpo_vl.engines.local.optim import learning_rate_share
from gmpo_vl.engines.local.probe import kept_probe, kl_of
from gmpo_vl.engines.local.setup import sampling_of, validation_sampling_of
from gmpo_vl.engines.local.stopping import Stopped, StopRequest
from gmpo_vl.engines.local.trainer import WORTH_SHARING, due, keep_rollouts, report, timed
from gmpo_vl.engines.passes import limits_of, take_rollout_log_probs
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.progress import phase_bar
from gmpo_vl.rollout.scoring import accuracy, score_groups, to_records
from gmpo_vl.rollout.types import Group
from gmpo_vl.runs import Run

# Largest accepted median gap of a token's log-prob between the sampler and the trainer (nats), by what the sampler
# computes in. A weight that was not brought over, a wrong temperature or a missing picture is off by far more.
MISMATCH = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}


@dataclass
class Session:
    """Everything a run works with, made once by driver.open_session."""

    config: Config
    run: Run
    workers: GMPOTrainer
    reward: Any
    prompts: PromptSet
    validation: PromptSet | None
    order: EpochOrder
    total_steps: int
    progress: Progress
    first_step: int
    stop: StopRequest
    loggers: list[Logger]
    next_prompts: Ahead
    probe: list[Group] | None = None
    answers: Sequence[Group] = ()  # some of the last step's, for the checkpoint


def run_steps(s: Session) -> None:
    """Steps until the last one; a request to stop ends them, saved, before or after a step's updates of the weights."""
    try:
        if s.progress.step == 0 and s.config.trainer.val_before_train:
            report(s, 0, validate(s))  # type: ignore[arg-type]
        if s.progress.unfinished:
            finish_step(s, s.progress.unfinished)
        while s.progress.step < s.total_steps:
            finish_step(s, train_step(s, s.progress.step + 1))
            s.stop.raise_if_asked()
    except Stopped:
        save(s)
        print(f"stopped after step {s.progress.step}; run the same command again to go on", flush=True)
        raise


def train_step(s: Session, step: int) -> dict[str, float]:
    """Rollouts, rewards and advantages, log-probs of the old policy, the updates. Returns the step's metrics."""
    metrics: dict[str, float] = {}
    times: dict[str, float] = {}
    with timed(times, "step"):
        with timed(times, "generate"):
            collected = collect(s, step)
        metrics |= group_metrics(collected)
        metrics |= choose_sharing(s, collected.groups)
        if s.progress.step == s.first_step and s.config.trainer.kl_to_start_freq > 0:
            probe_of(s)  # before the weights change
        with timed(times, "log_probs"):
            metrics |= old_and_reference_log_probs(s, step, collected)
        with timed(times, "update"):
            lr = s.config.worker.actor.optim.lr * learning_rate_share(
                step - 1, s.config.worker.actor.optim, s.total_steps
            )
            metrics |= s.workers.update(collected.groups, lr)
        s.progress.step = step
        s.progress.position, s.progress.surplus = collected.position, collected.surplus
        s.answers = collected.groups[: s.workers.ranks]
        keep_rollouts(s, step, collected.groups)  # type: ignore[arg-type]
    tokens = sum(len(g.prompt.ids_P) + len(r.ids_T) for g in collected.groups for r in g.responses)
    metrics["perf/tokens_per_second"] = tokens / times["step"]
    metrics["memory/host_rss"] = (
        psutil.Process().memory_info().rss / 2**30
    )  # the driver's; GPUs are the workers'
    return metrics | {f"time/{name}": seconds for name, seconds in times.items()}


def finish_step(s: Session, metrics: dict[str, float]) -> None:
    """What follows the updates: validation, the logs, a checkpoint. Stopped on the way, a resumed run begins here."""
    step = s.progress.step
    s.progress.unfinished = metrics
    found = dict(metrics)
    if due(s.config.trainer.kl_to_start_freq, step, s.total_steps):
        probe = probe_of(s)
        found["actor/kl_to_start"] = kl_of(probe, s.workers.log_probs(probe))
    if due(s.config.trainer.val_freq, step, s.total_steps):
        times: dict[str, float] = {}
        with timed(times, "validate"):
            found |= validate(s)
        found |= {f"time/{name}": seconds for name, seconds in times.items()}
    report(s, step, found)  # type: ignore[arg-type]
    s.progress.unfinished = {}
    best = s.progress.note_validation(step, found)
    if (best and s.config.trainer.save_best) or due(s.config.trainer.save_freq, step, s.total_steps):
        save(s)


def collect(s: Session, step: int) -> Collected:
    """Prompts, n rollouts each, rewards and group advantages."""

    def sample(prompts: Sequence[Prompt], positions: Sequence[int]) -> list[Group]:
        s.stop.raise_if_asked()
        with phase_bar(f"step {step}: rollouts", len(prompts)) as advance:
            groups = s.workers.generate(prompts, positions, sampling_of(s.config))
            advance(len(prompts))
        return groups

    with sampler(s):
        return collect_groups(
            s.config, s.progress.position, s.progress.surplus, s.next_prompts, sample, s.reward
        )


def probe_of(s: Session) -> list[Group]:
    """The frozen answers that `actor/kl_to_start` is measured on: sampled when first asked for, read again on resume."""

    def answer() -> list[Group]:
        with sampler(s):
            groups = s.workers.generate(asked, [-1] * len(asked), sampling_of(s.config))
        for group, log_probs in zip(groups, s.workers.log_probs(groups)):
            group.old_log_probs = log_probs
        return groups

    if s.probe is None:
        asked = s.prompts.encode(s.order.take(0, min(s.config.trainer.kl_to_start_prompts, len(s.prompts))))
        s.probe = kept_probe(s.prompts, s.run.folder / "probe.pt", answer)
    return s.probe


@contextmanager
def sampler(s: Session) -> Iterator[None]:
    """The rollout engine awake, with the policy's weights of now."""
    s.workers.actor_rollout_ref_wg.prepare_rollout_engine()
    yield
    s.workers.actor_rollout_ref_wg.release_rollout_engine()


def choose_sharing(s: Session, groups: Sequence[Group]) -> dict[str, float]:
    """Is each prompt computed once per group? Under `auto`: where the first batch of a run proves it right, and where a
    step's lengths make it pay. EasyR1's own losses go EasyR1's own way."""
    actor, workers = s.config.worker.actor, s.workers
    if easyr1_loss(s.config) is not None:
        workers.share_prefix = False
        return {"batch/tokens_saved": 0.0}
    limits = limits_of(s.config, True, actor.micro_batch_size_per_device_for_update)
    saved = tokens_saved(rows_of(groups), limits)
    if actor.share_prefix == "auto":
        if s.progress.step == s.first_step:
            proof = workers.prove_sharing(groups)
            s.progress.may_share = proof.holds and s.progress.may_share is not False
            print(
                f"{'prompts may be' if proof.holds else 'WARNING: prompts cannot be'} computed once per group: {proof}"
            )
        workers.share_prefix = bool(s.progress.may_share) and saved >= WORTH_SHARING
    return {"batch/tokens_saved": saved if workers.share_prefix else 0.0}


def old_and_reference_log_probs(s: Session, step: int, collected: Collected) -> dict[str, float]:
    """log pi_old of every response (surplus for the next step included), and log pi_ref where there is a KL term."""
    new = [group for group in (*collected.groups, *collected.surplus) if not group.old_log_probs]
    trusted = s.config.worker.actor.old_log_probs == "rollout"
    # Weights go to the sampler as loaded before the first step, as updated before the second: both are checked.
    early = step <= s.first_step + 2
    metrics: dict[str, float] = {}
    if not trusted or early:
        for group, log_probs in zip(new, s.workers.log_probs(new)):
            group.old_log_probs = log_probs
        metrics |= rollout_mismatch(new)
    if early:
        check_mismatch(s.config, metrics)
    if trusted:
        metrics |= take_rollout_log_probs(new)
    if not s.config.algorithm.disable_kl:
        for group, log_probs in zip(collected.groups, s.workers.reference_log_probs(collected.groups)):
            group.ref_log_probs = log_probs
    s.stop.raise_if_asked()
    return metrics


def check_mismatch(config: Config, metrics: dict[str, float]) -> None:
    """ConfigError where sampler and trainer are further apart than rounding can put them."""
    rollout = config.worker.rollout
    gap, most = metrics.get("rollout/mismatch_p50", 0.0), MISMATCH[rollout.dtype]
    if easyr1_loss(config) is not None:
        # EasyR1's forward bans nothing, so what the sampler's bans take is part of the gap.
        most = max(MISMATCH.values())
    if rollout.top_p < 1.0 or rollout.top_k > 0:
        return  # the sampler's log-probs are of the truncated distribution
    if not gap <= most:  # NaN too
        raise ConfigError(
            f"half of the tokens have log-probs that differ by more than {gap:.3g} nats between the sampler and the trainer "
            f"(accepted in {rollout.dtype}: {most:g}). They do not compute the same model: training would be off-policy "
            "from the start. Known causes: an untested vLLM that keeps a tied head's old weights, another chat template "
            "or image size in the sampler. Nothing was updated"
        )


def validate(s: Session) -> dict[str, float]:
    """`val/*`: means over questions of means over samples, by the run's reward; the first groups are kept."""
    if s.validation is None:
        return {}
    size = s.config.data.val_batch_size
    size = len(s.validation) if size < 0 else size
    sampling = validation_sampling_of(s.config)
    groups: list[Group] = []
    with sampler(s), phase_bar("validation", len(s.validation)) as advance:
        for start in range(0, len(s.validation), size):
            s.stop.raise_if_asked()
            batch = s.validation.encode(range(start, min(start + size, len(s.validation))))
            groups += s.workers.generate(batch, [0] * len(batch), sampling)
            advance(len(batch))
    score_groups(groups, s.reward)
    records = to_records(groups[: s.config.trainer.val_generations_to_log], s.run.add_image)
    if records:
        s.run.write_rollouts(s.progress.step, records, "validation")
        for logger in s.loggers:
            logger.samples(s.progress.step, records, "validation")
    return validation_metrics(groups)


def validation_metrics(groups: Sequence[Group]) -> dict[str, float]:
    sums: dict[str, float] = {}
    count = 0
    for group in groups:
        for response, score in zip(group.responses, group.scores):
            parts = score | {
                "accuracy": accuracy(score),
                "response_length": len(response.ids_T),
                "truncated": not response.finished,
            }
            count += 1
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value
    return {f"val/{name}": value / count for name, value in sums.items()}


def show_validation(s: Session) -> None:
    """`val_only`: the figures of the model as it stands, to the loggers; the run's own curve stays as it is."""
    metrics = validate(s)
    if not metrics:
        raise ConfigError("trainer.val_only needs data.val_files")
    for logger in s.loggers:
        logger.metrics(s.progress.step, metrics)


def save(s: Session) -> None:
    """A checkpoint of the state between two steps; only when it is complete do old ones beyond `save_limit` go."""
    if s.progress.step == 0:
        return
    if s.progress.step not in s.run.checkpoint_steps():
        save_checkpoint(s.run, s.workers, s.progress, s.prompts, s.config, s.answers)
    keep: set[int] = set()
    if s.config.trainer.save_best and s.progress.best_step > 0:
        mark_best(s.run, s.progress)
        keep = {s.progress.best_step}
    prune_checkpoints(s.run, s.config.trainer.save_limit, keep=keep)
