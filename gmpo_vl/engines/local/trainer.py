"""The local engine: GMPO in one process, on a CPU or one GPU. `train` reads like the paper's algorithm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from gmpo_vl.batching.packing import pack
from gmpo_vl.batching.planning import rows_of, tokens_saved
from gmpo_vl.config import Config, ConfigError
from gmpo_vl.data.types import Prompt
from gmpo_vl.engines.local.checkpoint import mark_best, prune_checkpoints, save_checkpoint
from gmpo_vl.engines.local.collect import Collected, collect_groups
from gmpo_vl.engines.local.metrics import group_metrics, memory_metrics, rollout_mismatch
from gmpo_vl.engines.local.opening import Training, open_training
from gmpo_vl.engines.local.optim import learning_rate_share
from gmpo_vl.engines.local.probe import measure_kl_to_start, open_probe
from gmpo_vl.engines.local.setup import sampling_of
from gmpo_vl.engines.local.stopping import Stopped
from gmpo_vl.engines.local.validate import validate
from gmpo_vl.engines.passes import (
    fill_old_log_probs,
    fill_reference_log_probs,
    limits_of,
    take_rollout_log_probs,
    update_policy,
)
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.proof import TOLERANCE, prove_sharing
from gmpo_vl.models.shared import sharing_obstacle
from gmpo_vl.progress import phase_bar
from gmpo_vl.rollout.hf import generate
from gmpo_vl.rollout.scoring import to_records
from gmpo_vl.rollout.types import Group
from gmpo_vl.runs import Run

# Share of the tokens that sharing must save before it is worth its bookkeeping: below it neither way is plainly faster.
WORTH_SHARING = 0.05


def train(config: Config) -> Run:
    """Run the configuration to its last step, going on from the run's last checkpoint where there is one.

    Asked to stop (Ctrl-C, SIGTERM) it saves and raises Stopped, which ends the process if nobody takes it.
    """
    t = open_training(config)  # the signals are not ours yet: there is nothing to save
    try:
        with t.stop:
            if config.trainer.val_only:
                show_validation(t)
            else:
                run_steps(t)
    finally:
        t.next_prompts.close()
        for logger in t.loggers:
            logger.close()
    return t.run


def run_steps(t: Training) -> None:
    """Steps until the last one; a request to stop ends them, saved, before or after a step's updates of the weights."""
    try:
        if t.progress.step == 0 and t.config.trainer.val_before_train:
            report(t, 0, run_validation(t))
        if t.progress.unfinished:
            finish_step(t, t.progress.unfinished)
        while t.progress.step < t.total_steps:
            finish_step(t, train_step(t, t.progress.step + 1))
            t.stop.raise_if_asked()
    except Stopped:
        save(t, resumable=True)
        print(f"stopped after step {t.progress.step}; run the same command again to go on", flush=True)
        raise


def train_step(t: Training, step: int) -> dict[str, float]:
    """Rollouts, rewards and advantages, log-probs of the old policy, the updates. Returns the step's metrics."""
    metrics: dict[str, float] = {}
    times: dict[str, float] = {}
    with timed(times, "step"):
        if t.policy.features:
            t.policy.features.forget()
        with timed(times, "generate"):
            collected = collect(t, step)
        metrics |= group_metrics(collected)
        if t.progress.step == t.first_step:
            settle_sharing(t, collected.groups)
        metrics |= choose_sharing(t, collected.groups)
        if t.progress.step == t.first_step and t.config.trainer.kl_to_start_freq > 0:
            probe_of(t)  # before the weights change
        with timed(times, "log_probs"):
            metrics |= old_and_reference_log_probs(t, collected)
        with timed(times, "update"):
            metrics |= update(t, step, collected.groups)
        t.progress.step = step
        t.progress.position, t.progress.surplus = collected.position, collected.surplus
        keep_rollouts(t, step, collected.groups)
    tokens = sum(len(g.prompt.ids_P) + len(r.ids_T) for g in collected.groups for r in g.responses)
    metrics |= {"perf/tokens_per_second": tokens / times["step"], **memory_metrics()}
    return metrics | {f"time/{name}": seconds for name, seconds in times.items()}


def finish_step(t: Training, metrics: dict[str, float]) -> None:
    """What follows the updates: the distance to the start, validation, the logs, a checkpoint.

    Stopped on the way, the checkpoint keeps the step's metrics, and a resumed run begins here.
    """
    step = t.progress.step
    t.progress.unfinished = metrics
    found = dict(metrics)
    if due(t.config.trainer.kl_to_start_freq, step, t.total_steps):
        found["actor/kl_to_start"] = measure_kl_to_start(t.policy, probe_of(t), t.config)
    if due(t.config.trainer.val_freq, step, t.total_steps):
        times: dict[str, float] = {}
        with timed(times, "validate"):
            found |= run_validation(t)
        found |= {f"time/{name}": seconds for name, seconds in times.items()}
    report(t, step, found)
    t.progress.unfinished = {}
    best = t.progress.note_validation(step, found)
    if (best and t.config.trainer.save_best) or due(t.config.trainer.save_freq, step, t.total_steps):
        save(t)


def collect(t: Training, step: int) -> Collected:
    """Prompts, G rollouts each, rewards and group advantages."""

    def sample(prompts: Sequence[Prompt], positions: Sequence[int]) -> list[Group]:
        with phase_bar(f"step {step}: rollouts", len(prompts)) as advance, t.policy.autocast():
            return generate(
                t.policy.model,
                t.policy.processor,
                prompts,
                sampling_of(t.config),
                positions,
                t.config.worker.rollout.max_cached_tokens,
                progress=interruptible(t, advance),
                features=t.policy.features,
            )

    return collect_groups(t.config, t.progress.position, t.progress.surplus, t.next_prompts, sample, t.reward)


def settle_sharing(t: Training, groups: Sequence[Group]) -> None:
    """Two rollouts of the first batch's shortest group go both ways; where they disagree the run goes the plain way."""
    if t.config.worker.actor.share_prefix != "auto" or not t.policy.share_prefix:
        return
    if t.progress.may_share is False:
        t.policy.share_prefix = False
        print("every rollout runs alone: the shared forward was wrong when this run began", flush=True)
        return
    group = min(groups, key=lambda g: sum(len(r.ids_T) for r in g.responses))
    rows = [(group.prompt, r.ids_T) for r in group.responses[:2]]  # two are enough to share a prompt, and fit
    packed = pack(rows, t.policy.processor.image, t.policy.device)
    dtype = t.policy.autocast_dtype or unwrap(t.policy.model).dtype
    t.policy.model.train()  # gradient checkpointing acts in this mode only
    with t.policy.autocast():
        temperature = t.config.worker.rollout.temperature
        proof = prove_sharing(t.policy.model, packed, temperature, t.policy.banned_ids, dtype)
    t.progress.may_share = proof.holds
    if t.progress.may_share:
        print(f"prompts may be computed once per group: {proof}", flush=True)
    else:
        print(f"WARNING: the shared forward is wrong here, every rollout runs alone: {proof}", flush=True)


def choose_sharing(t: Training, groups: Sequence[Group]) -> dict[str, float]:
    """Under `auto` the step's own lengths decide whether sharing prompts pays."""
    actor = t.config.worker.actor
    if actor.share_prefix == "never" or sharing_obstacle(unwrap(t.policy.model)) is not None:
        return {"batch/tokens_saved": 0.0}
    limits = limits_of(t.config, t.policy.share_prefix, actor.micro_batch_size_per_device_for_update)
    saved = tokens_saved(rows_of(groups), replace(limits, share_prefix=True))
    if actor.share_prefix == "auto":
        t.policy.share_prefix = bool(t.progress.may_share) and saved >= WORTH_SHARING
    return {"batch/tokens_saved": saved if t.policy.share_prefix else 0.0}


def probe_of(t: Training) -> list[Group]:
    """The frozen answers that `actor/kl_to_start` is measured on: sampled when first asked for, read again on resume."""
    if t.probe is None:
        first = t.order.take(0, min(t.config.trainer.kl_to_start_prompts, len(t.prompts)))
        t.probe = open_probe(t.policy, t.prompts, first, t.config, t.run.folder / "probe.pt")
    return t.probe


def old_and_reference_log_probs(t: Training, collected: Collected) -> dict[str, float]:
    """log pi_old of every response (surplus for the next step included), and log pi_ref where there is a KL term."""
    new = [group for group in (*collected.groups, *collected.surplus) if not group.old_log_probs]
    trusted = t.config.worker.actor.old_log_probs == "rollout"
    metrics: dict[str, float] = {}
    if not trusted or t.progress.step == t.first_step:
        metrics |= fill_old_log_probs(t.policy, new, t.config)
        metrics |= rollout_mismatch(new)
    if trusted:
        check_rollout(t, metrics)
        metrics |= take_rollout_log_probs(new)
    if not t.config.algorithm.disable_kl:
        fill_reference_log_probs(t.policy, t.reference, collected.groups, t.config)
    t.stop.raise_if_asked()
    return metrics


def check_rollout(t: Training, metrics: dict[str, float]) -> None:
    """`old_log_probs: rollout` takes the sampler's log-probs for the trainer's: in a run's first step they are compared.

    Raises ConfigError where they differ by more than this precision explains.
    """
    gap = metrics.get("rollout/mismatch_max", 0.0)
    dtype = t.policy.autocast_dtype or unwrap(t.policy.model).dtype
    allowed = TOLERANCE[dtype][0]
    if not gap <= allowed:
        raise ConfigError(
            f"worker.actor.old_log_probs is rollout, but the rollouts' log-probs differ from the trainer's by up to {gap:.2g} "
            f"(at most {allowed:.2g} is rounding in {dtype}); write recompute"
        )


def update(t: Training, step: int, groups: Sequence[Group]) -> dict[str, float]:
    """The step's mini-batch updates at this step's learning rate."""
    lr = t.config.worker.actor.optim.lr * learning_rate_share(
        step - 1, t.config.worker.actor.optim, t.total_steps
    )
    for parameters in t.optimizer.param_groups:
        parameters["lr"] = lr
    rollouts = t.config.worker.actor.ppo_epochs * sum(len(g.responses) for g in groups)
    with phase_bar(f"step {step}: updates", rollouts) as advance:
        return {**update_policy(t.policy, t.optimizer, groups, t.config, advance), "actor/lr": lr}


def run_validation(t: Training) -> dict[str, float]:
    if t.validation is None:
        return {}
    with phase_bar("validation", len(t.validation)) as advance:
        metrics, shown = validate(t.config, t.policy, t.validation, t.reward, interruptible(t, advance))
    records = to_records(shown, t.run.add_image)
    if records:
        t.run.write_rollouts(t.progress.step, records, "validation")
        for logger in t.loggers:
            logger.samples(t.progress.step, records, "validation")
    return metrics


def show_validation(t: Training) -> None:
    """`val_only`: the figures of the model as it stands, to the loggers; the run's own curve stays as it is."""
    metrics = run_validation(t)
    if not metrics:
        raise ConfigError("trainer.val_only needs data.val_files")
    for logger in t.loggers:
        logger.metrics(t.progress.step, metrics)


def save(t: Training, resumable: bool = False) -> None:
    """A checkpoint of the state between two steps; then old ones beyond `save_limit` go.

    resumable: with the trainer's state even under `save_model_only`.
    """
    if t.progress.step == 0:
        return
    models_only = t.config.trainer.save_model_only
    if t.progress.step not in t.run.checkpoint_steps() or (models_only and resumable):
        optimizer = None if models_only and not resumable else t.optimizer
        save_checkpoint(
            t.run, t.policy.model, t.policy.processor, optimizer, t.progress, t.prompts.fingerprint
        )
    keep: set[int] = set()
    if t.config.trainer.save_best and t.progress.best_step > 0:
        mark_best(t.run, t.progress)
        keep = {t.progress.best_step}
    prune_checkpoints(t.run, t.config.trainer.save_limit, keep=keep)


def keep_rollouts(t: Training, step: int, groups: Sequence[Group]) -> None:
    records = to_records(groups, t.run.add_image)
    t.run.write_rollouts(step, records)
    if due(t.config.trainer.val_freq, step, t.total_steps):
        for logger in t.loggers:
            logger.samples(step, records, "rollouts")


def report(t: Training, step: int, metrics: dict[str, float]) -> None:
    if not metrics:
        return
    t.run.append_metrics(step, metrics)
    for logger in t.loggers:
        logger.metrics(step, metrics)


def due(frequency: int, step: int, last: int) -> bool:
    """Every `frequency` steps and at the end; never for -1."""
    return frequency > 0 and (step % frequency == 0 or step == last)


def interruptible(t: Training, advance: Callable[[int], None]) -> Callable[[int], None]:
    """A progress callback that also ends the step when somebody asked to stop."""

    def tell(count: int) -> None:
        advance(count)
        t.stop.raise_if_asked()

    return tell


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times[name] = times.get(name, 0.0) + time.perf_counter() - start
