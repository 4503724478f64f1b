"""A checkpoint of this engine: EasyR1's shards, and the trainer's state beside them.

step_000010/actor/     one file of weights, one of optimizer state and one of the rest per rank, under EasyR1's names;
                       huggingface/: configuration and tokenizer, without weights (`gmpo-vl export` puts them in)
step_000010/trainer/   state.pt: position in the data, surplus groups, best score; parity.pt: what an export must reproduce
All ranks write into one folder: on several nodes it must be on a file system that they share.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gmpo_vl.config import Config
from gmpo_vl.engines.easyr1.export import parity_of
from gmpo_vl.engines.easyr1.files import shards
from gmpo_vl.engines.local.checkpoint import WEIGHTS, Progress, group_from, group_state
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rollout.types import Group
from gmpo_vl.runs import Run


def save_checkpoint(
    run: Run,
    workers: Any,
    progress: Progress,
    prompts: PromptSet,
    config: Config,
    answers: Sequence[Group],
) -> Path:
    """Write checkpoints/step_N as a whole. answers: some of the step's groups, for the proof of an export.

    Raises OSError where not every rank's files arrived.
    """
    with run.new_checkpoint(progress.step) as folder:
        workers.save(folder / "actor")
        ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
        found = shards(folder / "actor")
        if len(found) != ranks:
            raise OSError(
                f"{len(found)} of {ranks} ranks' weights arrived in {folder}: on several nodes "
                "trainer.save_checkpoint_path must be on a file system that all of them share"
            )
        add_model_files(prompts.processor, folder / "actor" / "huggingface")
        (folder / "trainer").mkdir()
        state = {
            "step": progress.step,
            "data": prompts.fingerprint,
            "position": progress.position,
            "surplus": [group_state(group) for group in progress.surplus],
            "best_accuracy": progress.best_accuracy,
            "best_step": progress.best_step,
            "unfinished": progress.unfinished,
            "may_share": progress.may_share,
            "resumable": not config.trainer.save_model_only,
        }
        torch.save(state, folder / "trainer" / "state.pt")
        kept = parity_of(
            answers,
            workers.log_probs(answers),
            config.worker.rollout.temperature,
            config.worker.actor.fsdp.mp_param_dtype,
        )
        kept.save(folder / "trainer" / "parity.pt")
    return run.checkpoint(progress.step)


def add_model_files(processor: Processor, folder: Path) -> None:
    """What the model's own folder holds beside weights, where EasyR1 did not put its own: chat template, image processor."""
    for path in processor.folder.iterdir():
        if path.is_file() and not path.name.endswith(WEIGHTS) and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def check_checkpoint(folder: Path, config: Config) -> None:
    """Can this run go on from there? Asked before Ray and any model is started. Raises ValueError with the way out."""
    found = shards(folder / "actor")
    if not found:
        raise ValueError(f"{folder} is no checkpoint of engine easyr1 (no actor/model_world_size_*.pt in it)")
    saved_on = {world for world, _ in found}
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    if saved_on != {ranks} or len(found) != ranks:
        raise ValueError(
            f"{folder} was saved by {max(saved_on)} GPUs ({len(found)} shards), this run has {ranks} (trainer.nnodes x "
            f"trainer.n_gpus_per_node): EasyR1's shards load on the same number only. To go on with other GPUs: gmpo-vl "
            f"export {folder} FOLDER, then another experiment_name with worker.actor.model.model_path=FOLDER (the "
            "optimizer starts afresh)"
        )
    if not _read(folder)["resumable"]:
        raise ValueError(
            f"{folder} was saved with trainer.save_model_only and cannot be resumed from; to start from its weights: "
            f"gmpo-vl export {folder} FOLDER, then worker.actor.model.model_path=FOLDER"
        )


def load_progress(folder: Path, prompts: PromptSet) -> Progress:
    """Where the run stood. Raises ValueError when its training data is not what it was."""
    state = _read(folder)
    if state["data"] != prompts.fingerprint:
        raise ValueError(
            f"{folder} was trained on other data: the rows of data.train_files changed since. Start another "
            "experiment_name from its exported weights (gmpo-vl export)"
        )
    return Progress(
        step=state["step"],
        position=state["position"],
        surplus=[group_from(values, prompts) for values in state["surplus"]],
        best_accuracy=state["best_accuracy"],
        best_step=state["best_step"],
        unfinished=state["unfinished"],
        may_share=state["may_share"],
    )


def _read(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "trainer" / "state.pt", map_location="cpu", weights_only=True)
