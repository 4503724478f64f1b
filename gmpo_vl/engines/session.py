"""What a run works with, made before its first step: data, reward, engine, and on resume where it stood."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from gmpo_vl.config import Config, ConfigError, save_config
from gmpo_vl.config.load import changed_settings
from gmpo_vl.data.order import EpochOrder
from gmpo_vl.engines.checkpoint import (
    Progress,
    check_whole,
    checkpoint_to_go_on_from,
    is_own,
    load_progress,
    tidy_checkpoints,
)
from gmpo_vl.engines.distance import check_probe
from gmpo_vl.engines.fingerprint import Fingerprint, fingerprint_of
from gmpo_vl.engines.loggers import Logger, open_loggers
from gmpo_vl.engines.mismatch import trend_figures
from gmpo_vl.engines.parity import Parity
from gmpo_vl.engines.passes import LogProbs
from gmpo_vl.engines.prefetch import Prefetch
from gmpo_vl.engines.stopping import StopRequest
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.runs import Run, few
from gmpo_vl.setup import (
    check_router,
    load_configured_processor,
    load_configured_reward,
    load_split,
    total_steps,
)
from gmpo_vl.sizing.fitting import with_fitting_tokens
from gmpo_vl.storage.manifest import Written
from gmpo_vl.types import Group, Prompt, Sampling


class Engine(Protocol):
    """The process or processes that hold the model. What comes back is in the order of the groups that went in.

    can_share: is there a shared forward for this model and loss? share_prefix: is each prompt computed once per group, in
    every pass from now on?
    """

    can_share: bool

    @property
    def share_prefix(self) -> bool: ...
    @share_prefix.setter
    def share_prefix(self, share: bool) -> None: ...

    def sampler(self) -> AbstractContextManager[None]:
        """Within it `generate` may be called, with the weights of now."""
        ...

    def keeping_features(self) -> AbstractContextManager[None]:
        """Within it, what a frozen ViT makes of a picture may be kept for the next pass over the same prompts."""
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        positions: Sequence[int],
        sampling: Sampling,
        progress: Callable[[int], None],
    ) -> list[Group]:
        """`sampling.n` responses to every prompt. positions: in the data order, for the seeds. progress: told how many
        prompts are done; what it raises ends the sampling."""
        ...

    def check_parity(self, groups: Sequence[Group]) -> Parity: ...

    def log_probs(self, groups: Sequence[Group]) -> LogProbs:
        """log pi of the current policy."""
        ...

    def reference_log_probs(self, groups: Sequence[Group]) -> list[list[torch.Tensor]]:
        """log pi of the starting model: of every group, of every response (T,)."""
        ...

    def update(self, groups: Sequence[Group], lr: float, progress: Callable[[int], None]) -> dict[str, float]:
        """The step's mini-batch updates; their metrics."""
        ...

    def tolerated_mismatch(self) -> dict[str, float]:
        """Largest accepted value of some `rollout/mismatch_*`."""
        ...

    def save(self, folder: Path, resumable: bool) -> Mapping[str, Written]:
        """Weights into a checkpoint's folder, and where it shall be resumable what else training needs. Returns the files
        that were hashed where they were written, by their paths in the folder; the others are hashed by the caller."""
        ...


@dataclass
class Session:
    """Everything a run works with, made once by `open_session`. mismatch: of every step, for the guard (mismatch.py)."""

    config: Config
    run: Run
    engine: Engine
    reward: Any  # a rewards.loading.Reward, or one that is called in another process
    prompts: PromptSet
    data: Fingerprint  # of the prompts
    validation: PromptSet | None
    order: EpochOrder
    next_prompts: Prefetch
    total_steps: int
    progress: Progress
    first_step: int
    stop: StopRequest
    loggers: list[Logger]
    mismatch: list[dict[str, float]]
    probe: list[Group] | None = None  # of `actor/kl_to_start`; made in the first step


def open_session(
    config: Config,
    check_checkpoint: Callable[[Path, Config], None],
    start: Callable[[Config, PromptSet, int, Path | None], Engine],
) -> Session:
    """Load everything, what is cheap first; on resume the logs are rewound to the checkpoint.

    check_checkpoint(folder, config): raises where this engine cannot go on from it. start(config, prompts, steps, checkpoint):
    the engine, with the checkpoint's weights where there is one.
    """
    check_router(config)
    reward = load_configured_reward(config)
    run, checkpoint = open_run(config, check_checkpoint)
    run.read_metrics()  # a line that cannot be read is told before anything is loaded
    processor = load_configured_processor(config)
    prompts = load_split(config, config.data.train_files, processor)
    validation = load_split(config, config.data.val_files, processor) if config.data.val_files else None
    tell_bad_rows(run, prompts, validation)
    data = fingerprint_of(prompts.examples, run.folder / "picture_hashes.json")
    progress = Progress() if checkpoint is None else load_progress(checkpoint, prompts, data)
    if checkpoint is not None and not is_own(
        run, checkpoint
    ):  # the best so far is another run's, and lies there; so does its probe
        progress.best_accuracy, progress.best_step = -1.0, -1
        progress.probe = None
    elif checkpoint is not None and config.trainer.kl_to_start_freq > 0 and not config.trainer.val_only:
        check_probe(run, progress)
    steps = total_steps(config, len(prompts))
    fitted = with_fitting_tokens(config, prompts)
    for reason in fitted.reasons:
        print(reason, flush=True)
    engine = start(fitted.config, prompts, steps, checkpoint)
    if checkpoint is not None:
        print(f"going on from {checkpoint}", flush=True)
        if progress.step >= steps and not config.trainer.val_only:
            print(f"the run is at its last step, {progress.step}: trainer.max_steps says more", flush=True)
    if not config.trainer.val_only:
        # Without a checkpoint even the validation before step 1 is done again.
        run.rewind(progress.step if checkpoint is not None else -1)
        keep_config(config, run)
    for line in run.read_metrics():
        progress.note_validation(line["step"], line)
        if line["step"] == progress.step:
            progress.unfinished = {}  # it was finished in an earlier resume
    if not config.trainer.val_only:
        tidy_checkpoints(run, config.trainer, progress)
    tell_disorder(run)
    if checkpoint is not None and is_own(run, checkpoint):
        tell_missing_steps(run, progress)
    mismatch = [trend_figures(line) for line in (*run.read_metrics(), progress.unfinished)]
    order = EpochOrder(len(prompts), config.data.seed, config.data.shuffle)
    return Session(
        config=fitted.config,
        run=run,
        engine=engine,
        reward=reward,
        prompts=prompts,
        data=data,
        validation=validation,
        order=order,
        next_prompts=Prefetch(lambda position, count: prompts.encode(order.take(position, count))),
        total_steps=steps,
        progress=progress,
        first_step=progress.step,
        stop=StopRequest(),
        loggers=open_loggers(config, run, progress.step, steps),
        mismatch=[figures for figures in mismatch if figures is not None],
    )


def run_of(config: Config) -> Run:
    return Run(config.trainer.save_checkpoint_path or f"runs/{config.trainer.experiment_name}")


def open_run(config: Config, check_checkpoint: Callable[[Path, Config], None]) -> tuple[Run, Path | None]:
    """The run's folder, put right after a kill, and the checkpoint to go on from. Its lock is held (locks.py)."""
    run = run_of(config)
    run.create().clear_up()
    checkpoint = checkpoint_to_go_on_from(run, config.trainer)
    if checkpoint is not None:
        check_whole(checkpoint)
        check_checkpoint(checkpoint, config)
    return run, checkpoint


def tell_bad_rows(run: Run, prompts: PromptSet, validation: PromptSet | None) -> None:
    """Rows that are skipped as configured are counted, and listed in the run's folder."""
    for name, split in (("train", prompts), ("validation", validation)):
        if split is not None and len(split.examples.faults):
            split.examples.faults.write(run.folder / f"{name}.bad_rows.jsonl")
            print(f"{name}: {split.examples.faults.summary()}", flush=True)


def tell_disorder(run: Run) -> None:
    """A curve that two runs wrote is not gone on with in silence."""
    for line in few(run.disorder()):
        print(f"WARNING: {line}", flush=True)


def tell_missing_steps(run: Run, progress: Progress) -> None:
    """A curve with a hole in it is not gone on with in silence."""
    missing = run.missing_steps(progress.step - 1 if progress.unfinished else progress.step)
    if missing:
        print(
            f"WARNING: {run.metrics_file} has no line of step {missing}: the curve has a hole there",
            flush=True,
        )


def keep_config(config: Config, run: Run) -> None:
    """Write config.yaml. What differs from the one the run was going on with is said, and that one is kept beside it.

    The former one is compared, not checked again: a file that it names may have moved, a key of it may be no more.
    """
    path = run.folder / "config.yaml"
    if path.exists():
        kept = run.folder / f"config.until_step_{max(run.checkpoint_steps(), default=0):06d}.yaml"
        try:
            changed = changed_settings(path, config)
            said = f"going on with other settings than before: {', '.join(changed)}" if changed else ""
        except ConfigError as error:
            said = f"the settings until now cannot be compared, they are kept as {kept.name}: {error}"
        if said:
            print(said, flush=True)
            if not kept.exists():  # that a checkpoint was written under; what was set since came to nothing
                path.replace(kept)
    save_config(config, path)
