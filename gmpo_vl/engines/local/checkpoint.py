"""A checkpoint: the model in Hugging Face form, and the trainer's state beside it.

step_000010/huggingface/   weights, configuration, tokenizer: loads with from_pretrained (an adapter under LoRA)
step_000010/trainer/       state.pt: optimizer, position in the data, surplus groups, best score, random state
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gmpo_vl.config.schema import TrainerConfig
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.prompts import PromptSet
from gmpo_vl.rollout.types import Group, Response
from gmpo_vl.runs import Run, write_json

# What a model folder holds beside its weights and their index.
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".safetensors.index.json", ".bin.index.json")


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
    run: Run,
    model: Any,
    processor: Processor,
    optimizer: torch.optim.Optimizer | None,
    progress: Progress,
    data_fingerprint: str,
) -> Path:
    """Write checkpoints/step_N as a whole. Without an optimizer (`save_model_only`) it cannot be resumed from."""
    with run.new_checkpoint(progress.step) as folder:
        save_model(model, processor, folder / "huggingface")
        if optimizer is not None:
            (folder / "trainer").mkdir()
            state = {
                "optimizer": optimizer.state_dict(),
                "step": progress.step,
                "data": data_fingerprint,
                "position": progress.position,
                "surplus": [group_state(group) for group in progress.surplus],
                "best_accuracy": progress.best_accuracy,
                "best_step": progress.best_step,
                "unfinished": progress.unfinished,
                "may_share": progress.may_share,
                "trained": trained_shapes(model),
                "rng": torch.get_rng_state(),
                "adapter": adapter_state(model),
            }
            torch.save(state, folder / "trainer" / "state.pt")
    return run.checkpoint(progress.step)


def save_model(model: Any, processor: Processor, folder: Path) -> None:
    """The model (or its LoRA adapter) and everything else of the folder its processor came from."""
    folder.mkdir(parents=True)
    for path in processor.folder.iterdir():
        if path.is_file() and not path.name.endswith(WEIGHTS):
            shutil.copyfile(path, folder / path.name)
    model.save_pretrained(folder, safe_serialization=True)


def trained_shapes(model: Any) -> dict[str, list[int]]:
    """Names and shapes of the parameters that an optimizer's state belongs to, in its order."""
    return {name: list(p.shape) for name, p in model.named_parameters() if p.requires_grad}


def adapter_state(model: Any) -> dict[str, torch.Tensor]:
    """The trained weights under LoRA, by name; empty without."""
    if unwrap(model) is model:
        return {}
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def load_checkpoint(
    folder: Path, model: Any, optimizer: torch.optim.Optimizer, prompts: PromptSet
) -> Progress:
    """Trainer state back into optimizer and (under LoRA) model. The model's own weights were loaded with the folder.

    Raises FileNotFoundError without a trainer state, ValueError when training data or trained parameters are not what they
    were.
    """
    path = folder / "trainer" / "state.pt"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: the checkpoint was saved with trainer.save_model_only and cannot be resumed from; "
            "to start from its weights set worker.actor.model.model_path to its huggingface folder"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["data"] != prompts.fingerprint:
        raise ValueError(
            f"{folder} was trained on other data: the rows of data.train_files changed since. Start another "
            "experiment_name with worker.actor.model.model_path set to its huggingface folder"
        )
    if state["trained"] != trained_shapes(model):
        raise ValueError(
            f"{folder} has the optimizer's state of other parameters than this run trains: "
            "worker.actor.model.lora.* and freeze_vision_tower must be what they were (see the run's config.yaml); to "
            "train its weights in another way start another experiment_name with model_path set to its huggingface folder"
        )
    optimizer.load_state_dict(state["optimizer"])
    parameters = dict(model.named_parameters())
    for name, value in state["adapter"].items():
        parameters[name].data.copy_(value)
    torch.set_rng_state(state["rng"])
    return Progress(
        step=state["step"],
        position=state["position"],
        surplus=[group_from(values, prompts) for values in state["surplus"]],
        best_accuracy=state["best_accuracy"],
        best_step=state["best_step"],
        unfinished=state["unfinished"],
        may_share=state["may_share"],
    )


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


def prune_checkpoints(run: Run, limit: int, keep: set[int]) -> None:
    """Only the newest `limit` complete checkpoints stay (-1: all), and those in `keep`."""
    for step in run.checkpoint_steps()[:-limit] if limit > 0 else []:
        if step not in keep:
            shutil.rmtree(run.checkpoint(step))


def mark_best(run: Run, progress: Progress) -> None:
    """best.json names the best checkpoint, where it was kept."""
    if progress.best_step in run.checkpoint_steps():
        write_json(
            run.checkpoints / "best.json",
            {"step": progress.best_step, "val/accuracy": progress.best_accuracy},
        )


def base_folder(folder: Path) -> str | None:
    """Under LoRA: the model an adapter folder was trained on."""
    path = folder / "adapter_config.json"
    return json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"] if path.exists() else None


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
