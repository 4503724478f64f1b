"""A run's checkpoints: where the run stands, whatever the engine keeps of the model, and which one to go on from.

step_000010/trainer/state.pt   position in the data, surplus groups, best score: the same file on every engine
step_000010/...                weights and optimizer as the engine writes them (local/checkpoint.py, easyr1/checkpoint.py)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gmpo_vl.config.schema import TrainerConfig
from gmpo_vl.files import write_json
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rollout.types import Group, Response
from gmpo_vl.runs import Run


@dataclass
class Progress:
    """Where a run stands, between two steps.

    step: steps done. position: examples taken from the data order. surplus: groups for the next step
    (`algorithm.online_filtering`). best_accuracy / best_step: the best validation so far. unfinished: metrics of the
    last step where its validation was stopped; empty where the step is whole. may_share: what `share_prefix: auto` found
    about the shared forward; None before it looked.
    """

    step: int = 0
    position: int = 0
    surplus: list[Group] = field(default_factory=list)
    best_accuracy: float = -1.0
    best_step: int = -1
    unfinished: dict[str, float] = field(default_factory=dict)
    may_share: bool | None = None

    def note_validation(self, step: int, metrics: dict[str, float]) -> bool:
        """Is this training step's validation the best so far?"""
        accuracy = metrics.get("val/accuracy")
        if step == 0 or accuracy is None or accuracy <= self.best_accuracy:
            return False
        self.best_accuracy, self.best_step = accuracy, step
        return True


def save_checkpoint(
    run: Run, progress: Progress, data: str, resumable: bool, save_model: Callable[[Path, bool], None]
) -> None:
    """Write checkpoints/step_N as a whole. data: fingerprint of the training rows. save_model(folder, resumable): the
    engine's part; without `resumable` (`save_model_only`) no more than the weights."""
    with run.new_checkpoint(progress.step) as folder:
        save_model(folder, resumable)
        (folder / "trainer").mkdir(exist_ok=True)
        state = {
            "step": progress.step,
            "data": data,
            "position": progress.position,
            "surplus": [group_state(group) for group in progress.surplus],
            "best_accuracy": progress.best_accuracy,
            "best_step": progress.best_step,
            "unfinished": progress.unfinished,
            "may_share": progress.may_share,
            "resumable": resumable,
        }
        torch.save(state, folder / "trainer" / "state.pt")


def load_progress(folder: Path, prompts: PromptSet) -> Progress:
    """Where the run stood at a checkpoint. Raises ValueError where it cannot be resumed from, or the training data is not
    what it was."""
    state = torch.load(folder / "trainer" / "state.pt", map_location="cpu", weights_only=True)
    if not state["resumable"]:
        raise ValueError(
            f"{folder} was saved with trainer.save_model_only and cannot be resumed from; to start from its weights "
            f"{_as_a_start(folder)}"
        )
    if state["data"] != prompts.fingerprint:
        raise ValueError(
            f"{folder} was trained on other data: the rows of data.train_files changed since. Start another "
            f"experiment_name from its weights: {_as_a_start(folder)}"
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


def _as_a_start(folder: Path) -> str:
    """How a new run begins with a checkpoint's weights."""
    if (folder / "huggingface").is_dir():
        return f"set worker.actor.model.model_path to {folder / 'huggingface'}"
    return f"gmpo-vl export {folder} FOLDER, then set worker.actor.model.model_path to FOLDER"


def checkpoint_to_go_on_from(run: Run, trainer: TrainerConfig) -> Path | None:
    """The run's own last checkpoint; where it has none, `load_checkpoint_path`; None: begin with the model.

    The same command, repeated, so goes on with what it has done. Raises FileExistsError where a run lies that is not to be
    resumed, ValueError for going back within one.
    """
    steps = run.checkpoint_steps()
    if not trainer.find_last_checkpoint and (steps or run.metrics_file.exists()):
        raise FileExistsError(
            f"{run.folder} already holds a run; give this one another trainer.experiment_name, or set "
            "trainer.find_last_checkpoint=true to go on with it"
        )
    asked = None if trainer.load_checkpoint_path is None else Path(trainer.load_checkpoint_path)
    if not steps:
        return asked
    last = run.checkpoint(steps[-1])
    if asked is not None and asked.resolve() != last.resolve() and is_own(run, asked):
        raise ValueError(
            f"trainer.load_checkpoint_path: {asked} is not this run's last checkpoint ({last}). To go back, move the later "
            "ones away; to keep them, go on from there under another trainer.experiment_name"
        )
    return last


def is_own(run: Run, checkpoint: Path) -> bool:
    """Does the checkpoint lie in this run's folder?"""
    return checkpoint.resolve().parent == run.checkpoints.resolve()


def tidy_checkpoints(run: Run, trainer: TrainerConfig, progress: Progress) -> None:
    """`save_limit` and best.json as they shall be, after a save and when a run is opened: a kill may have come between.

    The newest `save_limit` checkpoints stay (-1: all), and under `save_best` the best one, which best.json names.
    """
    steps = run.checkpoint_steps()
    best = progress.best_step if trainer.save_best and progress.best_step in steps else None
    marked = run.checkpoints / "best.json"
    if best is not None:
        write_json(marked, {"step": best, "val/accuracy": progress.best_accuracy})
    else:
        marked.unlink(missing_ok=True)
    for step in steps[: -trainer.save_limit] if trainer.save_limit > 0 else []:
        if step != best:
            run.remove_checkpoint(step)


def group_state(group: Group) -> dict[str, Any]:
    """Plain values and tensors only: the file is read without unpickling anything else."""
    return {
        "key": group.key,
        "id": group.prompt.example.id,
        "responses": [[r.ids_T, r.rollout_log_probs_T, r.text, r.finished, r.seed] for r in group.responses],
        "scores": group.scores,
        "old_log_probs": group.old_log_probs,
    }


def group_from(values: dict[str, Any], prompts: PromptSet) -> Group:
    responses = [Response(*fields) for fields in values["responses"]]
    return Group(
        key=values["key"],
        prompt=prompts.encode_by_id(values["id"]),
        responses=responses,
        scores=values["scores"],
        verdicts=[None] * len(responses),
        old_log_probs=values["old_log_probs"],
    )
