"""A run's steps, on every engine: the paper's algorithm, read from top to bottom.

A step generates, verifies, turns rewards into advantages, takes log-probs, updates, logs and saves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from gmpo_vl.batching.planning import rows_of, tokens_saved
from gmpo_vl.engines.checkpoint import save_checkpoint, tidy_checkpoints
from gmpo_vl.engines.collect import Collected, collect, group_metrics
from gmpo_vl.engines.correction import correction_metrics
from gmpo_vl.engines.kl_probe import kl_from_start, probe_of
from gmpo_vl.engines.look import measure_look
from gmpo_vl.engines.mismatch import MEDIAN, check_mismatch, rollout_mismatch, trend_figures
from gmpo_vl.engines.passes import take_rollout_log_probs
from gmpo_vl.engines.policy import learning_rate_share
from gmpo_vl.engines.session import Session, Stopped
from gmpo_vl.engines.validation import run_validation, show_validation
from gmpo_vl.progress import phase_bar
from gmpo_vl.rollout.scoring import pictures_kept, records_of
from gmpo_vl.runs import Run, SampleRecord
from gmpo_vl.sizing.budget import measured_peak
from gmpo_vl.sizing.limits import limits_of
from gmpo_vl.types import Group

# Sharing pays where it saves this share of the tokens. Below it neither way is plainly faster.
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
        if s.games is not None:
            s.games.make.close()
        for logger in s.loggers:
            logger.close()
    return s.run


def run_steps(s: Session) -> None:
    """Steps until the last. A request to stop ends them before or after a step's updates, and saves."""
    try:
        if s.progress.step == 0:
            report(s, 0, before_training(s))
        if s.progress.unfinished:
            # The step decided whether to share; this process has checked no parity yet.
            take_way(s, s.progress.unfinished.get("batch/tokens_saved", 0.0))
            finish_step(s, s.progress.unfinished)
        while s.progress.step < s.total_steps:
            finish_step(s, train_step(s, s.progress.step + 1))
            s.stop.raise_if_asked()
    except Stopped:
        save(s, resumable=True)
        print(f"stopped after step {s.progress.step}; run the same command again to go on", flush=True)
        raise


def before_training(s: Session) -> dict[str, float]:
    """What is measured of the policy that the run starts from."""
    found: dict[str, float] = {}
    if s.look is not None:
        with timed(found, "look"):
            found |= measure_look(s)
    return found | (run_validation(s) if s.config.trainer.val_before_train else {})


def train_step(s: Session, step: int) -> dict[str, float]:
    """Rollouts, rewards and advantages, old log-probs, the updates. Returns the step's metrics."""
    times: dict[str, float] = {}
    with timed(times, "step"), s.engine.keeping_features():
        with timed(times, "generate"):
            collected = collect(s, step)
        groups = collected.groups
        # While the policy learns from the rollouts, threads write their new pictures.
        shown = [prompt for group in groups for prompt in group.prompts]
        with pictures_kept(shown, s.run.add_image) as pictures:
            metrics = group_metrics(collected) | choose_sharing(s, groups)
            if s.progress.step == s.first_step and s.config.trainer.kl_to_start_freq > 0:
                probe_of(s)  # before the weights change
            with timed(times, "log_probs"):
                metrics |= old_and_reference_log_probs(s, collected)
            with timed(times, "update"):
                updated = update(s, step, groups)
            if MEDIAN not in metrics:  # the sampler was trusted: the first mini-batch of the update compared
                check_sampler(s, updated)
            s.progress.step = step
            s.progress.position, s.progress.carried = collected.position, collected.carried
            keep_rollouts(s, step, records_of(groups, pictures))
    tokens = sum(row.length for row in rows_of(groups))
    metrics = updated | metrics | {"perf/tokens_per_second": tokens / times["time/step"]}
    import psutil  # recipes/accept_1gpu.sh --core imports this file where there is no psutil

    metrics["memory/host_rss"] = psutil.Process().memory_info().rss / 2**30
    return metrics | times


def finish_step(s: Session, metrics: dict[str, float]) -> None:
    """What follows the updates: the distance to the start, the look, validation, the logs, a checkpoint.

    Stopped on the way, the checkpoint keeps the step's metrics, and a resumed run begins here.
    """
    step, trainer = s.progress.step, s.config.trainer
    s.progress.unfinished = metrics
    found = dict(metrics)
    if due(trainer.kl_to_start_freq, step, s.total_steps):
        found["actor/kl_to_start"] = kl_from_start(s)
    looked = s.look is not None and due(trainer.look_freq, step, s.total_steps)
    if looked:
        with timed(found, "look"):
            found |= measure_look(s)
    if due(trainer.val_freq, step, s.total_steps):
        with timed(found, "validate"):
            found |= run_validation(s)
    report(s, step, found)
    if looked:
        tell_of_blind_answers(s)
    s.progress.unfinished = {}
    best = s.progress.note_validation(step, found)
    wanted = (best and trainer.save_best) or due(trainer.save_freq, step, s.total_steps)
    if wanted or step == s.total_steps:  # the last always, as EasyR1
        save(s)


def choose_sharing(s: Session, groups: Sequence[Group]) -> dict[str, float]:
    """Decide whether each prompt is computed once per group.

    Under `auto` it is where the shared forward passed the parity check, and a step's own lengths make it pay.
    A model of a kind that is not known must pass it under `always`, too, and again where a row is longer than
    all that were checked: what depends on a length shows nowhere else.
    """
    actor, engine = s.config.worker.actor, s.engine
    if actor.share_prefix == "never" or not engine.can_share:
        return {"batch/tokens_saved": 0.0}
    rows = rows_of(groups)
    longest = max(row.length for row in rows)
    if s.progress.step == s.first_step:
        if actor.share_prefix == "auto" or not engine.known:
            check_parity(s, groups)
    elif not engine.known and s.progress.may_share and longest > s.checked_length:
        check_parity(s, groups)
    s.checked_length = max(s.checked_length, longest)
    limits = limits_of(s.config, "shared", actor.micro_batch_size_per_device_for_update)
    saved = tokens_saved(rows, limits)
    take_way(s, saved)
    return {"batch/tokens_saved": saved if engine.way == "shared" else 0.0}


def take_way(s: Session, saved: float) -> None:
    """Set how rollouts go through the model, from what the parity check found and the tokens that sharing
    saves. The padded rows of a kind that is not known are not proved: where it does not share, every rollout
    goes alone."""
    asked, engine = s.config.worker.actor.share_prefix, s.engine
    if asked == "never" or not engine.can_share:
        return
    proved = s.progress.may_share or (asked == "always" and engine.known)
    if proved and (asked == "always" or saved >= WORTH_SHARING):
        engine.way = "shared"
    else:
        engine.way = "plain" if proved and engine.known else "public"


def check_parity(s: Session, groups: Sequence[Group]) -> None:
    """Does the shared forward give what the model's own gives? A run that once failed is not asked again."""
    if s.progress.may_share is False:
        print("every rollout runs alone: the shared forward was wrong when this run began", flush=True)
        return
    parity = s.engine.check_parity(groups)
    s.progress.may_share = parity.holds
    if parity.failed is not None:
        print(f"every rollout runs alone, prompts are not shared: {parity.failed}", flush=True)
    elif not parity.holds:
        print(f"WARNING: the shared forward is wrong here, every rollout runs alone: {parity}", flush=True)
    elif s.progress.step == s.first_step:
        print(f"prompts may be computed once per group: {parity}", flush=True)


def old_and_reference_log_probs(s: Session, collected: Collected) -> dict[str, float]:
    """log pi_old of every response (carried groups included), and log pi_ref where there is a KL term."""
    for group in collected.groups:
        group.fresh = not group.old_log_probs
    new = [group for group in (*collected.groups, *collected.carried) if not group.old_log_probs]
    trusted = s.config.worker.actor.old_log_probs == "rollout"
    metrics: dict[str, float] = {}
    # The first step checks the weights that the sampler loaded, the second those that were brought over.
    if not trusted or s.progress.step < s.first_step + 2:
        found = s.engine.log_probs(new)
        for group, log_probs in zip(new, found.of):
            group.old_log_probs = log_probs
        metrics |= found.metrics() | rollout_mismatch(new)
        check_sampler(s, metrics)
    if trusted:
        metrics |= take_rollout_log_probs(new)
    metrics |= correction_metrics(collected.groups, s.config)
    if not s.config.algorithm.disable_kl:
        for group, log_probs in zip(collected.groups, s.engine.reference_log_probs(collected.groups)):
            group.ref_log_probs = log_probs
    s.stop.raise_if_asked()
    return metrics


def check_sampler(s: Session, metrics: dict[str, float]) -> None:
    """Raise ConfigError where the sampler is not the policy. A sound step's figures are kept."""
    if warning := check_mismatch(metrics, s.engine.tolerated_mismatch(), s.mismatch):
        print(warning, flush=True)
    figures = trend_figures(metrics)
    if figures is not None:
        s.mismatch.append(figures)


def update(s: Session, step: int, groups: Sequence[Group]) -> dict[str, float]:
    """The step's mini-batch updates at this step's learning rate."""
    actor = s.config.worker.actor
    lr = actor.optim.lr * learning_rate_share(step - 1, actor.optim, s.total_steps)
    # Never for its being the last step: a measured update sums in another order, and a run may go on.
    every = s.config.trainer.grad_noise_freq
    noise_step = step if every > 0 and step % every == 0 else None
    rollouts = actor.ppo_epochs * sum(len(g.responses) for g in groups)
    with phase_bar(f"step {step}: updates", rollouts) as advance:
        metrics = {**s.engine.update(groups, lr, advance, noise_step), "actor/lr": lr}
    # Not of a run's first step, which begins without gradients and moments.
    if step == s.first_step + 2 and s.config.engine == "local" and "memory/device_peak" in metrics:
        print(measured_peak(s.config, s.prompts, metrics["memory/device_peak"] * 2**30), flush=True)
    return metrics


def save(s: Session, resumable: bool = False) -> None:
    """A checkpoint of the state between two steps; then old ones beyond `save_limit` go.

    resumable: even under `save_model_only`.
    """
    if s.progress.step == 0:
        return
    models_only = s.config.trainer.save_model_only
    if s.progress.step not in s.run.checkpoint_steps() or (models_only and resumable):
        whole = resumable or not models_only
        save_checkpoint(s.run, s.progress, asdict(s.start), s.data, whole, s.engine.save)
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


def tell_of_blind_answers(s: Session) -> None:
    """Say it once when the policy begins to learn without its pictures (report/look.py has the rule)."""
    from gmpo_vl.report.look import blind_warnings  # recipes/accept_1gpu.sh --core has no jinja2

    for warning in blind_warnings(s.run.read_metrics()):
        if warning.step == s.progress.step:
            print(f"WARNING: {warning.text}", flush=True)


def due(frequency: int, step: int, last: int) -> bool:
    """Every `frequency` steps and at the end; never for -1."""
    return frequency > 0 and (step % frequency == 0 or step == last)


@contextmanager
def timed(into: dict[str, float], phase: str) -> Iterator[None]:
    """Put the seconds that the block took into `time/PHASE`."""
    start = time.perf_counter()
    yield
    into[f"time/{phase}"] = time.perf_counter() - start
