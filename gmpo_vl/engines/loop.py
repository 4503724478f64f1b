"""A run's steps, on every engine: generate, verify, advantages, log-probs, update, log, save. The paper's algorithm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil

from gmpo_vl.batching.planning import rows_of, tokens_saved
from gmpo_vl.config import ConfigError
from gmpo_vl.engines.checkpoint import save_checkpoint, tidy_checkpoints
from gmpo_vl.engines.collect import Collected, collect_groups
from gmpo_vl.engines.distance import kept_probe, kl_of
from gmpo_vl.engines.metrics import group_metrics, rollout_mismatch
from gmpo_vl.engines.mismatch import MEDIAN, check_mismatch, trend_figures
from gmpo_vl.engines.optim import learning_rate_share
from gmpo_vl.engines.passes import take_rollout_log_probs
from gmpo_vl.engines.session import Session
from gmpo_vl.engines.stopping import Stopped
from gmpo_vl.engines.validate import validate
from gmpo_vl.progress import phase_bar
from gmpo_vl.rollout.scoring import pictures_kept, records_of, to_records
from gmpo_vl.runs import Run, SampleRecord
from gmpo_vl.setup import sampling_of
from gmpo_vl.sizing.fitting import measured_peak
from gmpo_vl.sizing.limits import limits_of
from gmpo_vl.storage.manifest import measured
from gmpo_vl.types import Group, Prompt, Sampling

# Share of the tokens that sharing must save before it is worth its bookkeeping: below it neither way is plainly faster.
WORTH_SHARING = 0.05


def run_session(s: Session) -> Run:
    """To the last step. Asked to stop it saves and raises Stopped."""
    try:
        with s.stop:  # only now are the signals ours: before there is nothing to save
            if s.config.trainer.val_only:
                show_validation(s)
            else:
                run_steps(s)
    finally:
        s.next_prompts.close()
        for logger in s.loggers:
            logger.close()
    return s.run


def run_steps(s: Session) -> None:
    """Steps until the last one; a request to stop ends them, saved, before or after a step's updates of the weights."""
    try:
        if s.progress.step == 0 and s.config.trainer.val_before_train:
            report(s, 0, run_validation(s))
        if s.progress.unfinished:
            # As the step decided: this process has proven nothing yet.
            if s.config.worker.actor.share_prefix == "auto":
                s.engine.share_prefix = s.progress.unfinished.get("batch/tokens_saved", 0.0) > 0
            finish_step(s, s.progress.unfinished)
        while s.progress.step < s.total_steps:
            finish_step(s, train_step(s, s.progress.step + 1))
            s.stop.raise_if_asked()
    except Stopped:
        save(s, resumable=True)
        print(f"stopped after step {s.progress.step}; run the same command again to go on", flush=True)
        raise


def train_step(s: Session, step: int) -> dict[str, float]:
    """Rollouts, rewards and advantages, log-probs of the old policy, the updates. Returns the step's metrics."""
    times: dict[str, float] = {}
    with timed(times, "step"), s.engine.keeping_features():
        with timed(times, "generate"):
            collected = collect(s, step)
        # While the policy learns from the rollouts, their new pictures are written.
        with pictures_kept([group.prompt for group in collected.groups], s.run.add_image) as pictures:
            metrics = learn(s, step, collected, times)
            keep_rollouts(s, step, records_of(collected.groups, pictures))
    tokens = sum(len(g.prompt.ids_P) + len(r.ids_T) for g in collected.groups for r in g.responses)
    metrics["perf/tokens_per_second"] = tokens / times["step"]
    metrics["memory/host_rss"] = psutil.Process().memory_info().rss / 2**30
    return metrics | {f"time/{name}": seconds for name, seconds in times.items()}


def learn(s: Session, step: int, collected: Collected, times: dict[str, float]) -> dict[str, float]:
    """Log-probs and updates; then the step is the run's. Returns its metrics; `times` gets the seconds of the phases."""
    metrics = group_metrics(collected)
    metrics |= choose_sharing(s, collected.groups)
    if s.progress.step == s.first_step and s.config.trainer.kl_to_start_freq > 0:
        probe_of(s)  # before the weights change
    with timed(times, "log_probs"):
        metrics |= old_and_reference_log_probs(s, collected)
    with timed(times, "update"):
        updated = update(s, step, collected.groups)
    if MEDIAN not in metrics:  # the sampler's log-probs were taken as they are: of the first mini-batch
        check_sampler(s, updated)
    metrics = updated | metrics
    if step == s.first_step + 2 and s.config.engine == "local" and "memory/device_peak" in metrics:
        # The first step of a run begins without gradients and moments.
        print(measured_peak(s.config, s.prompts, metrics["memory/device_peak"] * 2**30), flush=True)
    s.progress.step = step
    s.progress.position, s.progress.carried = collected.position, collected.carried
    return metrics


def finish_step(s: Session, metrics: dict[str, float]) -> None:
    """What follows the updates: the distance to the start, validation, the logs, a checkpoint.

    Stopped on the way, the checkpoint keeps the step's metrics, and a resumed run begins here.
    """
    step = s.progress.step
    s.progress.unfinished = metrics
    found = dict(metrics)
    if due(s.config.trainer.kl_to_start_freq, step, s.total_steps):
        probe = probe_of(s)
        found["actor/kl_to_start"] = kl_of(probe, s.engine.log_probs(probe).of)
    if due(s.config.trainer.val_freq, step, s.total_steps):
        times: dict[str, float] = {}
        with timed(times, "validate"):
            found |= run_validation(s)
        found |= {f"time/{name}": seconds for name, seconds in times.items()}
    report(s, step, found)
    s.progress.unfinished = {}
    best = s.progress.note_validation(step, found)
    wanted = (best and s.config.trainer.save_best) or due(s.config.trainer.save_freq, step, s.total_steps)
    if wanted or step == s.total_steps:  # the last always, as EasyR1
        save(s)


def collect(s: Session, step: int) -> Collected:
    """Prompts, G rollouts each, rewards and group advantages."""

    def sample(prompts: Sequence[Prompt], positions: Sequence[int]) -> list[Group]:
        s.stop.raise_if_asked()
        with phase_bar(f"step {step}: rollouts", len(prompts)) as advance:
            return s.engine.generate(prompts, positions, sampling_of(s.config), interruptible(s, advance))

    with s.engine.sampler():
        return collect_groups(
            s.config, s.progress.position, s.progress.carried, s.next_prompts, sample, s.reward
        )


def choose_sharing(s: Session, groups: Sequence[Group]) -> dict[str, float]:
    """Is each prompt computed once per group? Under `auto`: where the first batch of a run proves it right, and where a
    step's own lengths make it pay."""
    actor, engine = s.config.worker.actor, s.engine
    if actor.share_prefix == "never" or not engine.can_share:
        return {"batch/tokens_saved": 0.0}
    if actor.share_prefix == "auto" and s.progress.step == s.first_step:
        check_parity(s, groups)
    limits = limits_of(s.config, True, actor.micro_batch_size_per_device_for_update)
    saved = tokens_saved(rows_of(groups), limits)
    if actor.share_prefix == "auto":
        engine.share_prefix = bool(s.progress.may_share) and saved >= WORTH_SHARING
    return {"batch/tokens_saved": saved if engine.share_prefix else 0.0}


def check_parity(s: Session, groups: Sequence[Group]) -> None:
    """Some of the first batch goes both ways; a run that once found them different stays with the plain one."""
    if s.progress.may_share is False:
        print("every rollout runs alone: the shared forward was wrong when this run began", flush=True)
        return
    parity = s.engine.check_parity(groups)
    s.progress.may_share = parity.holds
    if parity.holds:
        print(f"prompts may be computed once per group: {parity}", flush=True)
    else:
        print(f"WARNING: the shared forward is wrong here, every rollout runs alone: {parity}", flush=True)


def probe_of(s: Session) -> list[Group]:
    """The frozen answers that `actor/kl_to_start` is measured on: sampled when first asked for, read again on resume."""

    def answer() -> list[Group]:
        asked = s.prompts.encode(s.order.take(0, min(s.config.trainer.kl_to_start_prompts, len(s.prompts))))
        with s.engine.sampler():  # occasion -1: no training step has it
            groups = s.engine.generate(asked, [-1] * len(asked), sampling_of(s.config), interruptible(s))
        for group, log_probs in zip(groups, s.engine.log_probs(groups).of):
            group.old_log_probs = log_probs
        return groups

    if s.probe is None:
        s.probe = kept_probe(s.prompts, s.run.probe_file, answer)
        s.progress.probe = measured(s.run.probe_file).sha256
    return s.probe


def old_and_reference_log_probs(s: Session, collected: Collected) -> dict[str, float]:
    """log pi_old of every response (surplus for the next step included), and log pi_ref where there is a KL term."""
    for group in collected.groups:
        group.fresh = not group.old_log_probs
    new = [group for group in (*collected.groups, *collected.carried) if not group.old_log_probs]
    trusted = s.config.worker.actor.old_log_probs == "rollout"
    metrics: dict[str, float] = {}
    # Weights go to the sampler as loaded before the first step, as updated before the second: every token of both is checked.
    if not trusted or s.progress.step < s.first_step + 2:
        found = s.engine.log_probs(new)
        for group, log_probs in zip(new, found.of):
            group.old_log_probs = log_probs
        metrics |= found.metrics() | rollout_mismatch(new)
        check_sampler(s, metrics)
    if trusted:
        metrics |= take_rollout_log_probs(new)
    if not s.config.algorithm.disable_kl:
        for group, log_probs in zip(collected.groups, s.engine.reference_log_probs(collected.groups)):
            group.ref_log_probs = log_probs
    s.stop.raise_if_asked()
    return metrics


def check_sampler(s: Session, metrics: dict[str, float]) -> None:
    """Raise ConfigError where the sampler is not the policy; a sound step's figures are kept for the next ones."""
    check_mismatch(metrics, s.engine.tolerated_mismatch(), s.mismatch)
    figures = trend_figures(metrics)
    if figures is not None:
        s.mismatch.append(figures)


def update(s: Session, step: int, groups: Sequence[Group]) -> dict[str, float]:
    """The step's mini-batch updates at this step's learning rate."""
    actor = s.config.worker.actor
    lr = actor.optim.lr * learning_rate_share(step - 1, actor.optim, s.total_steps)
    rollouts = actor.ppo_epochs * sum(len(g.responses) for g in groups)
    with phase_bar(f"step {step}: updates", rollouts) as advance:
        return {**s.engine.update(groups, lr, advance), "actor/lr": lr}


def run_validation(s: Session) -> dict[str, float]:
    """`val/*`; the first answers are kept to be looked at."""
    if s.validation is None:
        return {}
    with s.engine.sampler(), phase_bar("validation", len(s.validation)) as advance:

        def sample(prompts: Sequence[Prompt], sampling: Sampling) -> list[Group]:
            s.stop.raise_if_asked()
            return s.engine.generate(prompts, [0] * len(prompts), sampling, interruptible(s, advance))

        metrics, shown = validate(s.config, s.validation, s.reward, sample)
    records = to_records(shown, s.run.add_image)
    if records:
        s.run.write_rollouts(s.progress.step, records, "validation")
        for logger in s.loggers:
            logger.samples(s.progress.step, records, "validation")
    return metrics


def show_validation(s: Session) -> None:
    """`val_only`: the figures of the model as it stands, to the loggers; the run's own curve stays as it is."""
    metrics = run_validation(s)
    if not metrics:
        raise ConfigError("trainer.val_only needs data.val_files")
    for logger in s.loggers:
        logger.metrics(s.progress.step, metrics)


def save(s: Session, resumable: bool = False) -> None:
    """A checkpoint of the state between two steps; then old ones beyond `save_limit` go.

    resumable: even under `save_model_only`.
    """
    if s.progress.step == 0:
        return
    models_only = s.config.trainer.save_model_only
    if s.progress.step not in s.run.checkpoint_steps() or (models_only and resumable):
        whole = resumable or not models_only
        save_checkpoint(s.run, s.progress, s.data, whole, s.engine.save)
    tidy_checkpoints(s.run, s.config.trainer, s.progress)


def keep_rollouts(s: Session, step: int, records: Sequence[SampleRecord]) -> None:
    s.run.write_rollouts(step, records)
    if due(s.config.trainer.val_freq, step, s.total_steps):
        for logger in s.loggers:
            logger.samples(step, records, "rollouts")


def report(s: Session, step: int, metrics: dict[str, float]) -> None:
    if not metrics:
        return
    s.run.append_metrics(step, metrics)
    for logger in s.loggers:
        logger.metrics(step, metrics)


def due(frequency: int, step: int, last: int) -> bool:
    """Every `frequency` steps and at the end; never for -1."""
    return frequency > 0 and (step % frequency == 0 or step == last)


def interruptible(s: Session, advance: Callable[[int], None] = lambda _count: None) -> Callable[[int], None]:
    """A progress callback that also ends the sampling when somebody asked to stop."""

    def tell(count: int) -> None:
        advance(count)
        s.stop.raise_if_asked()

    return tell


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times[name] = times.get(name, 0.0) + time.perf_counter() - start
