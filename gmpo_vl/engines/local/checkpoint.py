"""The model's part of a checkpoint on engine local.

step_000010/huggingface/          weights (an adapter under LoRA), configuration, tokenizer
step_000010/trainer/optimizer.pt  optimizer, random state, under LoRA the adapter as it is trained
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gmpo_vl.config import Config
from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.forward import unwrap
from gmpo_vl.models.loading import copy_without_weights
from gmpo_vl.models.processing import Processor
from gmpo_vl.storage.tensors import read_saved


def check_checkpoint(folder: Path, _config: Config) -> None:
    """Raise FileNotFoundError for a folder that is no checkpoint of this engine."""
    if not (folder / "huggingface").is_dir():
        raise FileNotFoundError(
            f"{folder} is no checkpoint of engine local (no huggingface folder in it): name another one as "
            "trainer.load_checkpoint_path, or move it away"
        )


def save_model(model: Any, processor: Processor, folder: Path) -> None:
    """The model (or its LoRA adapter) and everything else of the folder its processor came from."""
    folder.mkdir(parents=True)
    copy_without_weights(processor.folder, folder)
    save_pretrained(model, folder)


def save_optimizer(model: torch.nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    path.parent.mkdir()
    state = {
        "optimizer": optimizer.state_dict(),
        "trained": trained_shapes(model),
        "rng": torch.get_rng_state(),
        "adapter": adapter_state(model),
        "transformers": version("transformers"),
    }
    torch.save(state, path)


def load_optimizer(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore the optimizer's state, the random state and, under LoRA, the adapter. Rate, decay and betas
    are this run's.

    Raises ValueError where this run trains other parameters than the file is of.
    """
    state = read_saved(path, ("optimizer", "trained", "rng", "adapter"))
    if state["trained"] != trained_shapes(model):
        _check_version(path, state, model)
        raise ValueError(
            f"{path} is the optimizer's state of other parameters than this run trains: "
            "worker.actor.model.lora.* and freeze_vision_tower must be what they were (see the run's "
            "config.yaml); to train its weights in another way start another experiment_name with "
            "model_path set to the checkpoint's huggingface folder"
        )
    for saved, own in zip(state["optimizer"]["param_groups"], optimizer.param_groups):
        # This run's settings. `fused` is this machine's: it also says where torch keeps the step counts.
        saved |= {name: value for name, value in own.items() if name != "params"}
    optimizer.load_state_dict(state["optimizer"])
    parameters = dict(model.named_parameters())
    for name, value in state["adapter"].items():
        parameters[name].data.copy_(value)
    torch.set_rng_state(state["rng"])


def _check_version(path: Path, state: dict[str, Any], model: torch.nn.Module) -> None:
    """ValueError where the same parameters have other names: another version of transformers gave them."""
    here, before = version("transformers"), state.get("transformers")  # None: an earlier version of ours
    shapes = [sorted(named.values()) for named in (state["trained"], trained_shapes(model))]
    if before == here or shapes[0] != shapes[1]:
        return
    wrote = "another version of transformers" if before is None else f"transformers {before}"
    raise ValueError(
        f"{path} was written with {wrote}, and transformers {here}, which is installed here, has other names "
        "for this model's parameters: go on with the version that wrote it; or start another experiment_name "
        "with model_path set to the checkpoint's huggingface folder, which both read"
    )


def trained_shapes(model: torch.nn.Module) -> dict[str, list[int]]:
    """Names and shapes of the trained parameters, in the optimizer's order."""
    return {name: list(p.shape) for name, p in model.named_parameters() if p.requires_grad}


def adapter_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The trained weights under LoRA, by name; empty without."""
    if unwrap(model) is model:
        return {}
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
