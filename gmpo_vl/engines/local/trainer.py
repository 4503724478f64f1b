"""The local engine: GMPO in one process, on a CPU or one GPU. `train` reads like the paper's algorithm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmpo_vl.batching.packing import pack
from gmpo_vl.config import Config, ConfigError, load_config, save_config
from gmpo_vl.config.schema import key_types, value_of
from gmpo_vl.data.order import EpochOrder
from gmpo_vl.data.types import Prompt
from gmpo_vl.engines.local.checkpoint import (
    Progress,
    base_folder,
    load_checkpoint,
    mark_best,
    prune_checkpoints,
    save_checkpoint,
)
from gmpo_vl.engines.local.collect import Collected, collect_groups
from gmpo_vl.engines.local.loggers import Logger, open_loggers
from gmpo_vl.engines.local.metrics import group_metrics, memory_metrics, rollout_mismatch
from gmpo_vl.engines.local.optim import build_optimizer, learning_rate_share
from gmpo_vl.engines.local.plan import total_steps
from gmpo_vl.engines.local.probe import measure_kl_to_start, open_probe
from gmpo_vl.engines.local.setup import (
    Policy,
    build_policy,
    build_reference,
    load_configured_reward,
    load_split,
    sampling_of,
)
from gmpo_vl.engines.local.stopping import Stopped, StopRequest
from gmpo_vl.engines.local.validate import validate
from gmpo_vl.engines.passes import fill_old_log_probs, fill_reference_log_probs, update_policy
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.models.proof import prove_sharing
from gmpo_vl.progress import phase_bar
from gmpo_vl.rollout.hf import generate
from gmpo_vl.rollout.scoring import to_records
from gmpo_vl.rollout.types import Group
from gmpo_vl.runs import Run


@dataclass
class Training:
    """Everything a run works with, made once by `open_training`."""

    config: Config
    run: Run
    policy: Policy
    reference: Any | None
    optimizer: Any
    reward: Any
    prompts: PromptSet
    validation: PromptSet | None
    order: EpochOrder
    total_steps: int
    progress: Progress
    first_step: int
    probe: list[Group]
    stop: StopRequest
    loggers: list[Logger]


def train(config: Config) -> Run:
    """Run the configuration to its last step, going on from the run's last checkpoint where there is one."""
    with StopRequest() as stop:
        t = open_training(config, stop)
        try:
            if config.trainer.val_only:
                show_validation(t)
                return t.run
            if t.progress.step == 0 and config.trainer.val_before_train:
                report(t, 0, run_validation(t))
            run_steps(t)
        except Stopped:
            save(t)
            print(f"stopped after step {t.progress.step}; run the same command again to go on", flush=True)
        finally:
            for logger in t.loggers:
                logger.close()
    return t.run


def run_steps(t: Training) -> None:
    """Steps until the last one; a request to stop ends them, saved, between two updates of the weights."""
    while t.progress.step < t.total_steps:
        step = t.progress.step + 1
        metrics, times = {}, {}
        with timed(times, "step"):
            with timed(times, "generate"):
                collected = collect(t, step)
            metrics |= group_metrics(collected)
            if t.progress.step == t.first_step:
                settle_sharing(t, collected.groups)
            with timed(times, "log_probs"):
                metrics |= old_and_reference_log_probs(t, collected)
            with timed(times, "update"):
                metrics |= update(t, step, collected.groups)
            t.progress.step = step
            t.progress.position, t.progress.surplus = collected.position, collected.surplus
            keep_rollouts(t, step, collected.groups)
        tokens = sum(len(g.prompt.ids_P) + len(r.ids_T) for g in collected.groups for r in g.responses)
        metrics |= {"perf/tokens_per_second": tokens / times["step"], **memory_metrics()}
        if due(t.config.trainer.kl_to_start_freq, step, t.total_steps):
            metrics["actor/kl_to_start"] = measure_kl_to_start(t.policy, t.probe, t.config)
        if due(t.config.trainer.val_freq, step, t.total_steps):
            with timed(times, "validate"):
                metrics |= run_validation(t)
        report(t, step, metrics | {f"time/{name}": seconds for name, seconds in times.items()})
        if is_best(t, metrics) or due(t.config.trainer.save_freq, step, t.total_steps):
            save(t)
        t.stop.raise_if_asked()


def collect(t: Training, step: int) -> Collected:
    """Prompts, G rollouts each, rewards and group advantages."""

    def next_prompts(position: int, count: int) -> list[Prompt]:
        return t.prompts.encode(t.order.take(position, count))

    def sample(prompts: Sequence[Prompt], positions: Sequence[int]) -> list[Group]:
        with phase_bar(f"step {step}: rollouts", len(prompts)) as advance, t.policy.autocast():
            return generate(
                t.policy.model,
                t.policy.processor,
                prompts,
                sampling_of(t.config),
                positions,
                progress=interruptible(t, advance),
            )

    return collect_groups(t.config, t.progress.position, t.progress.surplus, next_prompts, sample, t.reward)


def settle_sharing(t: Training, groups: Sequence[Group]) -> None:
    """On the first batch of every run one group goes both ways; where they disagree the run goes the plain way."""
    if t.config.worker.actor.share_prefix != "auto":
        return
    group = min(groups, key=lambda g: sum(len(r.ids_T) for r in g.responses))
    rows = [(group.prompt, r.ids_T) for r in group.responses[:2]]  # two are enough to share a prompt, and fit
    packed = pack(rows, t.policy.processor.image, t.policy.device)
    dtype = t.policy.autocast_dtype or unwrap(t.policy.model).dtype
    t.policy.model.train()  # gradient checkpointing acts in this mode only
    with t.policy.autocast():
        temperature = t.config.worker.rollout.temperature
        proof = prove_sharing(t.policy.model, packed, temperature, t.policy.banned_ids, dtype)
    t.policy.share_prefix = proof.holds
    if proof.holds:
        print(f"each prompt is computed once per group: {proof}", flush=True)
    else:
        print(f"WARNING: the shared forward is wrong here, every rollout runs alone: {proof}", flush=True)


def old_and_reference_log_probs(t: Training, collected: Collected) -> dict[str, float]:
    """log pi_old of every response (surplus for the next step included), and log pi_ref where there is a KL term."""
    new = [group for group in (*collected.groups, *collected.surplus) if not group.old_log_probs]
    metrics = fill_old_log_probs(t.policy, new, t.config)
    metrics |= rollout_mismatch(new)
    if not t.config.algorithm.disable_kl:
        fill_reference_log_probs(t.policy, t.reference, collected.groups, t.config)
    t.stop.raise_if_asked()
    return metrics


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
        metrics, shown = validate(t.config, t.policy, t.validation, t.reward, advance)
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


def is_best(t: Training, metrics: dict[str, float]) -> bool:
    """Note the best validation so far; say whether this step is it and should be kept."""
    if metrics.get("val/accuracy", -1.0) <= t.progress.best_accuracy:
        return False
    t.progress.best_accuracy, t.progress.best_step = metrics["val/accuracy"], t.progress.step
    return t.config.trainer.save_best


def save(t: Training) -> None:
    """A checkpoint of the state between two steps; then old ones beyond `save_limit` go."""
    if t.progress.step == 0 or t.progress.step in t.run.checkpoint_steps():
        return
    optimizer = None if t.config.trainer.save_model_only else t.optimizer
    save_checkpoint(t.run, t.policy.model, t.policy.processor, optimizer, t.progress, t.prompts.fingerprint)
    best = {t.progress.best_step} if t.config.trainer.save_best else set()
    if best:
        mark_best(t.run, t.progress)
    prune_checkpoints(t.run, t.config.trainer.save_limit, keep=best)


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


def open_training(config: Config, stop: StopRequest) -> Training:
    """Load everything; on resume weights, optimizer and position come from the checkpoint, and the logs are rewound."""
    reward = load_configured_reward(config)  # first: its faults cost nothing yet
    run, checkpoint = open_run(config)
    folder = checkpoint / "huggingface" if checkpoint is not None else None
    adapter_base = base_folder(folder) if folder is not None else None
    policy = build_policy(config, adapter_base or folder)
    prompts = load_split(config, config.data.train_files, policy.processor)
    validation = (
        load_split(config, config.data.val_files, policy.processor) if config.data.val_files else None
    )
    for name, split in (("train", prompts), ("validation", validation)):
        if split is not None and len(split.examples.faults):
            split.examples.faults.write(run.folder / f"{name}.bad_rows.jsonl")
            print(f"{name}: {split.examples.faults.summary()}", flush=True)
    optimizer = build_optimizer(policy.model.parameters(), config.worker.actor.optim)
    progress = Progress()
    if checkpoint is not None:
        progress = load_checkpoint(checkpoint, policy.model, optimizer, prompts)
        print(f"going on from {checkpoint}", flush=True)
    if not config.trainer.val_only:
        # Without a checkpoint even the validation before step 1 is done again.
        run.rewind(progress.step if checkpoint is not None else -1)
        keep_config(config, run)
    steps = total_steps(config, len(prompts))
    order = EpochOrder(len(prompts), config.data.seed, config.data.shuffle)
    probe: list[Group] = []
    if config.trainer.kl_to_start_freq > 0:
        asked = prompts.encode(order.take(0, min(config.trainer.kl_to_start_prompts, len(prompts))))
        probe = open_probe(policy, asked, config, run.folder / "probe.pt")
    return Training(
        config=config,
        run=run,
        policy=policy,
        reference=build_reference(config, policy, resumed=checkpoint is not None),
        optimizer=optimizer,
        reward=reward,
        prompts=prompts,
        validation=validation,
        order=order,
        total_steps=steps,
        progress=progress,
        first_step=progress.step,
        probe=probe,
        stop=stop,
        loggers=open_loggers(config, run, progress.step, steps),
    )


def open_run(config: Config) -> tuple[Run, Path | None]:
    """The run's folder and the checkpoint to go on from: `load_checkpoint_path`, else the folder's own last one.

    Raises FileNotFoundError for a checkpoint path that is none, FileExistsError where a run lies that is not resumed.
    """
    trainer = config.trainer
    run = Run(trainer.save_checkpoint_path or f"runs/{trainer.experiment_name}")
    steps = run.checkpoint_steps()
    checkpoint = run.checkpoint(steps[-1]) if steps and trainer.find_last_checkpoint else None
    if trainer.load_checkpoint_path is not None and checkpoint is None:
        checkpoint = Path(trainer.load_checkpoint_path)
        if not (checkpoint / "huggingface").is_dir():
            raise FileNotFoundError(
                f"trainer.load_checkpoint_path: {checkpoint} is no checkpoint (no huggingface folder in it)"
            )
    if not trainer.find_last_checkpoint and (steps or run.metrics_file.exists()):
        raise FileExistsError(
            f"{run.folder} already holds a run; give this one another trainer.experiment_name, or set "
            "trainer.find_last_checkpoint=true to go on with it"
        )
    run.create().remove_partial_checkpoints()
    return run, checkpoint


def keep_config(config: Config, run: Run) -> None:
    """Write config.yaml. What differs from the one the run was going on with is said, and that one is kept beside it."""
    path = run.folder / "config.yaml"
    if path.exists():
        before = load_config(path)
        changed = [key for key in key_types() if value_of(before, key) != value_of(config, key)]
        if changed:
            path.replace(run.folder / f"config.until_step_{max(run.checkpoint_steps(), default=0):06d}.yaml")
            print(f"going on with other settings than before: {', '.join(changed)}", flush=True)
    save_config(config, path)
