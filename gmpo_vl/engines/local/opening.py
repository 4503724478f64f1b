"""What a run works with, made before its first step: model, data, optimizer, and on resume where it stood."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmpo_vl.config import Config, load_config, save_config
from gmpo_vl.config.schema import key_types, value_of
from gmpo_vl.data.order import EpochOrder
from gmpo_vl.engines.local.ahead import Ahead
from gmpo_vl.engines.local.checkpoint import (
    Progress,
    base_folder,
    checkpoint_to_go_on_from,
    is_own,
    load_checkpoint,
)
from gmpo_vl.engines.local.loggers import Logger, open_loggers
from gmpo_vl.engines.local.optim import build_optimizer
from gmpo_vl.engines.local.plan import total_steps
from gmpo_vl.engines.local.setup import (
    Policy,
    build_policy,
    build_reference,
    load_configured_reward,
    load_split,
)
from gmpo_vl.engines.local.stopping import StopRequest
from gmpo_vl.models.prompts import PromptSet
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
    next_prompts: Ahead
    total_steps: int
    progress: Progress
    first_step: int
    stop: StopRequest
    loggers: list[Logger]
    probe: list[Group] | None = None  # of `actor/kl_to_start`; made in the first step


def open_training(config: Config) -> Training:
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
        if not is_own(run, checkpoint):  # the best so far is another run's, and lies there
            progress.best_accuracy, progress.best_step = -1.0, -1
    if not config.trainer.val_only:
        # Without a checkpoint even the validation before step 1 is done again.
        run.rewind(progress.step if checkpoint is not None else -1)
        keep_config(config, run)
    for line in run.read_metrics():
        progress.note_validation(line["step"], line)
        if line["step"] == progress.step:
            progress.unfinished = {}  # it was finished in an earlier resume
    steps = total_steps(config, len(prompts))
    order = EpochOrder(len(prompts), config.data.seed, config.data.shuffle)
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
        next_prompts=Ahead(lambda position, count: prompts.encode(order.take(position, count))),
        total_steps=steps,
        progress=progress,
        first_step=progress.step,
        stop=StopRequest(),
        loggers=open_loggers(config, run, progress.step, steps),
    )


def open_run(config: Config) -> tuple[Run, Path | None]:
    """The run's folder, and the checkpoint to go on from. Raises FileNotFoundError for a path that is none."""
    trainer = config.trainer
    run = Run(trainer.save_checkpoint_path or f"runs/{trainer.experiment_name}")
    checkpoint = checkpoint_to_go_on_from(run, trainer)
    if checkpoint is not None and not (checkpoint / "huggingface").is_dir():
        raise FileNotFoundError(
            f"trainer.load_checkpoint_path: {checkpoint} is no checkpoint (no huggingface folder in it)"
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
