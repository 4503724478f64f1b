"""Where a run that lies in its folder already would go on, before the command is given (`--dry-run`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.config.load import changed_settings
from gmpo_vl.engines.easyr1.checkpoint import check_checkpoint as check_easyr1
from gmpo_vl.engines.fingerprint import fingerprint_of
from gmpo_vl.engines.local.checkpoint import check_checkpoint as check_local
from gmpo_vl.engines.opening import at_its_end, new_start, resume, run_of, whole_checkpoint
from gmpo_vl.engines.start import check_start, start_of
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.runs import Run
from gmpo_vl.setup import total_steps

HASHES = ("picture_hashes.json", "weight_hashes.json")


def goes_on(config: Config, load_train: Callable[[], PromptSet]) -> list[str]:
    """Where the run in the configuration's folder would go on, a line each; nothing of a new run.

    load_train: the training rows, asked for where there is a checkpoint. Nothing is written.
    Raises what the run would raise: for a damaged checkpoint, other data, another start.
    """
    run = run_of(config)
    checkpoint = whole_checkpoint(config, run, check_easyr1 if config.engine == "easyr1" else check_local)
    run.read_metrics()  # raises for a line that cannot be read
    if checkpoint is None:
        return [] if config.trainer.val_only else new_start(run)
    with TemporaryDirectory() as folder:  # hashes that are not known yet are written there
        for name in HASHES:
            if (run.folder / name).is_file():
                shutil.copyfile(run.folder / name, Path(folder) / name)
        check_start(run, checkpoint, config, start_of(config, Run(folder)))
        prompts = load_train()
        data = fingerprint_of(prompts.examples, Path(folder) / "picture_hashes.json")
    progress = resume(config, run, checkpoint, prompts, data)
    if config.trainer.val_only:
        return [f"validates step {progress.step} ({checkpoint})"]
    lines = [f"goes on from step {progress.step} ({checkpoint}){_other_settings(config, run)}"]
    return lines if progress.step < total_steps(config, len(prompts)) else [*lines, at_its_end(progress)]


def _other_settings(config: Config, run: Run) -> str:
    path = run.folder / "config.yaml"
    if not run.checkpoint_steps() or not path.exists():  # another run's checkpoint
        return ""
    try:
        changed = changed_settings(path, config)
    except ConfigError as error:
        return f"; the settings until now cannot be compared: {error}"
    return f", with other settings: {', '.join(changed)}" if changed else ""
