"""From a configuration to a Session: load everything; on resume, go back to where the run stood."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gmpo_vl.config import Config, ConfigError, save_config
from gmpo_vl.config.load import changed_settings
from gmpo_vl.data.examples import EpochOrder
from gmpo_vl.engines.answering import asked_of
from gmpo_vl.engines.checkpoint import (
    Progress,
    check_whole,
    checkpoint_to_go_on_from,
    is_own,
    load_progress,
    tidy_checkpoints,
)
from gmpo_vl.engines.fingerprint import Fingerprint, fingerprint_of
from gmpo_vl.engines.kl_probe import check_probe
from gmpo_vl.engines.loggers import check_loggers, open_loggers
from gmpo_vl.engines.look_probe import look_probe
from gmpo_vl.engines.mismatch import trend_figures
from gmpo_vl.engines.session import Engine, Prefetch, Session, StopRequest
from gmpo_vl.engines.start import check_start, start_of
from gmpo_vl.environments.loading import EnvironmentMaker
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rewards.loading import Reward
from gmpo_vl.runs import Run, few
from gmpo_vl.setup import (
    check_agreement,
    check_masking,
    check_router,
    ends_of,
    games_of,
    load_configured_environment,
    load_configured_processor,
    load_configured_reward,
    load_own_objective,
    load_split,
    shared_rows,
    total_steps,
)
from gmpo_vl.sizing.budget import with_fitting_tokens
from gmpo_vl.sizing.parameters import check_adapters, configured_size


def open_session(
    config: Config,
    check_checkpoint: Callable[[Path, Config], None],
    make_engine: Callable[[Config, PromptSet, int, Path | None], Engine],
) -> Session:
    """Load everything, what is cheap first. On resume the logs are rewound to the checkpoint.

    check_checkpoint(folder, config): raises where this engine cannot go on from it. make_engine(config,
    prompts, steps, checkpoint): the engine, with the checkpoint's weights where there is one.
    """
    check_router(config)
    if config.worker.actor.model.lora.rank > 0:
        check_adapters(config, configured_size(config))
    for line in [*shared_rows(config), *check_loggers(config)]:
        print(f"WARNING: {line}", flush=True)
    make = load_configured_environment(config)
    reward = load_configured_reward(config) if make is None else None
    load_own_objective(config)
    run, checkpoint = open_run(config, check_checkpoint)
    if checkpoint is not None:
        check_start(run, checkpoint, config, start_of(config, run))
    run.read_metrics()  # raises for a line that cannot be read, before anything is loaded
    prompts, validation = _load_splits(config, reward, make)
    games = None if make is None else games_of(config, make, prompts)
    look = look_probe(config, prompts, validation)
    data = fingerprint_of(prompts.examples, run.folder / "picture_hashes.json")
    start = start_of(config, run)  # a refused run leaves no folder: its hashes come after the rows
    progress = Progress() if checkpoint is None else resume(config, run, checkpoint, prompts, data)
    steps = total_steps(config, len(prompts))
    fitted = with_fitting_tokens(config, prompts)
    for reason in fitted.reasons:
        print(reason, flush=True)
    engine = make_engine(fitted.config, prompts, steps, checkpoint)
    if checkpoint is not None:
        print(f"going on from {checkpoint}", flush=True)
        if progress.step >= steps and not config.trainer.val_only:
            print(at_its_end(progress), flush=True)
    stays = checkpoint is not None and _stays_as_it_is(config, run, progress, checkpoint, steps)
    if not stays:
        for name, split in _with_bad_rows(prompts, validation):
            split.examples.faults.write(run.folder / f"{name}.bad_rows.jsonl")
    _put_logs_right(config, run, progress, checkpoint, stays)
    mismatch = [trend_figures(line) for line in (*run.read_metrics(), progress.unfinished)]
    order = EpochOrder(len(prompts), config.data.seed, config.data.shuffle)
    return Session(
        config=fitted.config,
        run=run,
        engine=engine,
        reward=reward,
        games=games,
        prompts=prompts,
        start=start,
        data=data,
        validation=validation,
        order=order,
        next_prompts=Prefetch(lambda position, count: asked_of(games, prompts, order.take(position, count))),
        total_steps=steps,
        progress=progress,
        first_step=progress.step,
        stop=StopRequest(),
        loggers=[] if stays else open_loggers(config, run, progress.step, steps),
        mismatch=[figures for figures in mismatch if figures is not None],
        look=look,
    )


def _load_splits(
    config: Config, reward: Reward | None, make: EnvironmentMaker | None
) -> tuple[PromptSet, PromptSet | None]:
    """What is trained and validated on. Raises ConfigError where prompts and reward cannot go together."""
    processor = load_configured_processor(config)
    ends_of(config, processor)  # raises where the model has none
    data = config.data
    prompts = load_split(config, data.train_files, processor, make)
    validation = load_split(config, data.val_files, processor, make) if data.val_files else None
    for name, split in _with_bad_rows(prompts, validation):
        print(f"{name}: {split.examples.faults.summary()}", flush=True)
    check_masking(config, prompts)
    for key, split in (("data.train_files", prompts), ("data.val_files", validation)):
        if reward is not None and split is not None:
            check_agreement(key, split, reward)
    return prompts, validation


def run_of(config: Config) -> Run:
    return Run(config.trainer.save_checkpoint_path or f"runs/{config.trainer.experiment_name}")


def open_run(config: Config, check_checkpoint: Callable[[Path, Config], None]) -> tuple[Run, Path | None]:
    """The run's folder, put right after a kill and locked by the caller, and the checkpoint to go on from."""
    run = run_of(config)
    run.create().clear_up()
    return run, whole_checkpoint(config, run, check_checkpoint)


def whole_checkpoint(
    config: Config, run: Run, check_checkpoint: Callable[[Path, Config], None]
) -> Path | None:
    """The checkpoint to go on from; None for a new run. Raises where it is damaged, or not of the engine."""
    checkpoint = checkpoint_to_go_on_from(run, config.trainer)
    if checkpoint is not None:
        check_whole(checkpoint)
        check_checkpoint(checkpoint, config)
    return checkpoint


def resume(config: Config, run: Run, checkpoint: Path, prompts: PromptSet, data: Fingerprint) -> Progress:
    """Where the run stood at the checkpoint. Raises ValueError where it cannot go on from there."""
    progress = load_progress(checkpoint, prompts, data)
    if not is_own(run, checkpoint):  # the best step and the probe are another run's, and lie in its folder
        progress.best_step = -1
        progress.probe = None
    elif config.trainer.kl_to_start_freq > 0 and not config.trainer.val_only:
        check_probe(run, progress, min(config.trainer.kl_to_start_prompts, len(prompts)))
    return progress


def at_its_end(progress: Progress) -> str:
    return f"the run is at its last step, {progress.step}: trainer.max_steps says more"


def _stays_as_it_is(config: Config, run: Run, progress: Progress, checkpoint: Path, steps: int) -> bool:
    """Is nothing left to do of this run, and are the settings others than it was trained with? Its folder
    then keeps what it has; the settings that train nothing are told."""
    if config.trainer.val_only or progress.step < steps or not is_own(run, checkpoint):
        return False
    if progress.unfinished and all(line["step"] != progress.step for line in run.read_metrics()):
        return False  # its last step is still to be validated
    path = run.folder / "config.yaml"
    if not path.exists():
        return False
    try:
        changed = changed_settings(path, config)
    except ConfigError as error:
        changed = [f"those of before cannot be compared: {error}"]
    if changed:
        said = f"other settings train nothing, and {run.folder} stays as it is: {', '.join(changed)}"
        print(said, flush=True)
    return bool(changed)


def _put_logs_right(
    config: Config, run: Run, progress: Progress, checkpoint: Path | None, stays: bool
) -> None:
    """Take back what was logged after the checkpoint. `progress` gets what was logged since it was written.

    A curve that two runs wrote, or one with a hole in it, is told. `val_only` changes nothing in the folder.
    stays: neither does this, as nothing is trained.
    """
    stays = stays or config.trainer.val_only
    if not stays:
        if checkpoint is None:
            for line in new_start(run):
                print(line, flush=True)
        # Without a checkpoint even the validation before step 1 is done again.
        run.rewind(progress.step if checkpoint is not None else -1)
        keep_config(config, run)
    for line in run.read_metrics():
        progress.note_validation(line["step"], line)
        if line["step"] == progress.step:
            progress.unfinished = {}  # it was finished in an earlier resume
    if not stays:
        tidy_checkpoints(run, config.trainer, progress)
    for line in few(run.disorder()):
        print(f"WARNING: {line}", flush=True)
    if checkpoint is not None and is_own(run, checkpoint):
        missing = run.missing_steps(progress.step - 1 if progress.unfinished else progress.step)
        if missing:
            said = f"{run.metrics_file} has no line of step {missing}: the curve has a hole there"
            print(f"WARNING: {said}", flush=True)


def new_start(run: Run) -> list[str]:
    """A line where a run was here before and left no checkpoint that this one goes on from."""
    if not (run.folder / "config.yaml").exists():
        return []
    steps = max((line["step"] for line in run.read_metrics()), default=0)
    moved = f"; the lines of {steps} steps go to metrics.discarded.jsonl" if steps else ""
    return [f"no checkpoint of {run.folder} to go on from: it starts at step 1 again{moved}"]


def _with_bad_rows(prompts: PromptSet, validation: PromptSet | None) -> Iterator[tuple[str, PromptSet]]:
    """The splits of which rows are skipped, as configured."""
    for name, split in (("train", prompts), ("validation", validation)):
        if split is not None and len(split.examples.faults):
            yield name, split


def keep_config(config: Config, run: Run) -> None:
    """Write config.yaml. Where a run goes on with other settings, say which, and keep the former ones
    beside it.

    The one of before is compared, not checked again: a file that it names may have moved, a key may be no
    more.
    """
    path = run.folder / "config.yaml"
    saved = run.checkpoint_steps()
    if saved and path.exists():  # without a checkpoint the run begins again
        kept = run.folder / f"config.until_step_{max(saved):06d}.yaml"
        try:
            changed = changed_settings(path, config)
            said = f"going on with other settings than before: {', '.join(changed)}" if changed else ""
        except ConfigError as error:
            said = f"the settings until now cannot be compared, they are kept as {kept.name}: {error}"
        if said:
            print(said, flush=True)
            if not kept.exists():  # else it has the last checkpoint's settings: no later step was kept
                path.replace(kept)
    save_config(config, path)
