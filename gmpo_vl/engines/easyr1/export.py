"""EasyR1's sharded checkpoint as a Hugging Face folder, and a parity check of that folder.

With every checkpoint go a few of the step's answers and the log-probs that the trained model gave them
(`TrainedAnswers`). The exported folder is loaded as anybody would load it and must give the same; otherwise
there is no folder. Needs neither Ray nor EasyR1.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Shard

from gmpo_vl.batching.planning import in_one_prompt, rows_of
from gmpo_vl.engines.checkpoint import check_whole
from gmpo_vl.engines.easyr1.checkpoint import PLAIN, shards
from gmpo_vl.engines.parity import TOLERANCE, Gaps, gaps_between
from gmpo_vl.models.adapters import merged
from gmpo_vl.models.compat import complete_config, save_pretrained
from gmpo_vl.models.forward import ForwardOptions, response_log_probs
from gmpo_vl.models.loading import (
    auto_class,
    banned_ids,
    base_folder,
    copy_without_weights,
    load_model,
    model_config,
)
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.shared import first_way
from gmpo_vl.setup import DTYPES
from gmpo_vl.storage.files import naming
from gmpo_vl.storage.tensors import read_saved
from gmpo_vl.types import Example, Group, Prompt

RESPONSES = 2  # of each group kept
ROOM = 1.2  # memory of a GPU that takes the check's forward, as a multiple of the weights


@dataclass
class TrainedAnswers:
    """Answers, and the log-probs that the trained model gave them: plain values and tensors alone
    (parity.pt).

    prompts: (ids_P, images, image_grid_thw, position_ids_3P) each. responses: ids_T of each prompt's.
    log_probs: float32, of each. dtype: what the model computed in, `bf16` or so.
    """

    prompts: list[tuple[torch.Tensor, list[torch.Tensor], torch.Tensor, torch.Tensor]]
    responses: list[list[torch.Tensor]]
    log_probs: list[list[torch.Tensor]]
    temperature: float
    dtype: str

    def save(self, path: Path) -> None:
        torch.save(asdict(self), path)


def trained_answers(
    groups: Sequence[Group], log_probs: Sequence[Sequence[torch.Tensor]], temperature: float, dtype: str
) -> TrainedAnswers:
    """The first answers of each group with the log-probs of the model as it is saved."""
    kept = TrainedAnswers([], [], [], temperature, dtype)
    for group, of_group in zip(groups, log_probs):
        for rows in in_one_prompt(rows_of([group])[:RESPONSES]):
            prompt = rows[0].prompt
            inputs = prompt.ids_P, list(prompt.images), prompt.image_grid_thw, prompt.position_ids_3P
            kept.prompts.append(inputs)
            kept.responses.append([row.ids_T for row in rows])
            kept.log_probs.append([of_group[row.k] for row in rows])
    return kept


def export(checkpoint: Path, folder: Path, adapter: bool = False) -> Gaps:
    """Write `folder`. Returns how far its log-probs are from the trained model's.

    checkpoint: checkpoints/step_N of a run on engine easyr1. adapter: the LoRA adapter alone, not merged.
    Raises ValueError where the checkpoint is not whole, or where the export does not compute what the trained
    model did.
    """
    answers = _answers_of(checkpoint, folder, adapter)
    actor, dtype = checkpoint / "actor", DTYPES[answers.dtype]
    lora = (actor / "lora_adapter").is_dir()
    partial = folder.with_name(f".partial_{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    if adapter:
        _save_adapter(actor, partial)
    elif lora:
        with tempfile.TemporaryDirectory(dir=folder.parent) as alone:
            _save_adapter(actor, Path(alone))
            save_pretrained(_merged(Path(alone), dtype), partial)
    else:
        _save_whole(actor, partial, dtype)
    copy_without_weights(actor / "huggingface", partial)
    complete_config(partial)  # an adapter's was copied
    gaps, allowed = gaps_of_export(partial, answers), TOLERANCE[dtype]
    if not gaps.within(allowed):
        raise ValueError(
            f"the exported model is not the trained one: log-probs differ by {gaps.rms:.3g} nats (root mean "
            f"square; {gaps.largest:.3g} at most), rounding in {answers.dtype} explains {allowed.rms:g}. "
            f"What was written is in {partial}, for a look; do not use it"
        )
    os.replace(partial, folder)
    return gaps


def _answers_of(checkpoint: Path, folder: Path, adapter: bool) -> TrainedAnswers:
    """What the export must reproduce. Raises ValueError or FileExistsError where it cannot be made."""
    actor = checkpoint / "actor"
    if (checkpoint / "huggingface").is_dir():
        raise ValueError(
            f"{checkpoint} is engine local's: {checkpoint / 'huggingface'} is a Hugging Face folder"
        )
    if not shards(actor):
        raise ValueError(
            f"{checkpoint} is no checkpoint of engine easyr1 (no actor/model_world_size_*.pt in it)"
        )
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: name another folder")
    check_whole(checkpoint)
    kept = read_saved(checkpoint / "trainer" / "parity.pt", tuple(f.name for f in fields(TrainedAnswers)))
    if not kept["prompts"]:
        raise ValueError(
            f"{checkpoint} was saved before the run took a step of its own: export the checkpoint that it "
            "went on from"
        )
    if adapter and not (actor / "lora_adapter").is_dir():
        raise ValueError(f"{checkpoint} was not trained with LoRA: there is no adapter, leave --adapter out")
    return TrainedAnswers(**kept)


def gaps_of_export(folder: Path, answers: TrainedAnswers) -> Gaps:
    """The log-probs of the model in `folder` against those kept."""
    dtype, adapter = DTYPES[answers.dtype], (folder / "adapter_config.json").exists()
    model: Any = (_merged(folder, dtype) if adapter else load_model(folder, dtype)).eval()
    model.to(_roomy_device(model))
    family = load_processor(folder).family
    found = []
    for (ids_P, images, grid_N3, positions_3P), responses in zip(answers.prompts, answers.responses):
        prompt = Prompt(Example("", "", ""), "", ids_P, tuple(images), grid_N3, positions_3P)
        packed = pack([(prompt, ids_T) for ids_T in responses], family, model.device)
        with torch.no_grad():
            found_BT, _ = response_log_probs(
                model,
                packed,
                answers.temperature,
                banned_ids(model.config),
                options=ForwardOptions(first_way(model.config, "never")),
            )
        found.append(found_BT[packed.mask_BT].cpu())
    kept = [of_response for of_prompt in answers.log_probs for of_response in of_prompt]
    return gaps_between(torch.cat(found), torch.cat(kept))


def _roomy_device(model: torch.nn.Module) -> str:
    """The GPU, where there is one with room for the model and a forward; else the CPU, slowly."""
    if not torch.cuda.is_available():
        return "cpu"
    needed = sum(p.numel() * p.element_size() for p in model.parameters())
    free, _ = torch.cuda.mem_get_info()
    return "cuda" if free > ROOM * needed else "cpu"


def _merged(adapter: Path, dtype: torch.dtype) -> Any:
    """The adapter in the model that it was trained in: EasyR1 rounds all that LoRA does not train to bf16."""
    model = load_model(base_folder(adapter), dtype)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).to(dtype)
    return merged(model, adapter)


def _save_whole(actor: Path, folder: Path, dtype: torch.dtype) -> None:
    """All weights, joined from every rank's, under the names that transformers reads."""
    config = model_config(actor / "huggingface")
    with torch.device("meta"):
        model = auto_class(config).from_config(config, dtype=dtype, trust_remote_code=False)
    weights = {name: value.to(dtype) for name, value in whole_weights(actor).items()}
    _, unknown = model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()  # a tied head is not in the shards
    left = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if unknown or left:
        raise ValueError(
            f"{actor} is of another model than its configuration: no weights for {left}, {unknown} in vain"
        )
    save_pretrained(model, folder)


def _save_adapter(actor: Path, folder: Path) -> None:
    """The LoRA adapter with its configuration, from the shards.

    Under recent versions of peft the file of weights that EasyR1 writes beside them is empty.
    """
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    weights = {
        name.replace(".default.", "."): value.contiguous()
        for name, value in whole_weights(actor).items()
        if ".lora_" in name
    }
    with naming(folder / "adapter_model.safetensors"):
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(actor / "lora_adapter" / "adapter_config.json", folder / "adapter_config.json")


def whole_weights(actor: Path) -> dict[str, torch.Tensor]:
    """Every parameter from all ranks' shards. Raises ValueError for missing ranks or a wrong shape."""
    found = shards(actor)
    world = found[0][0]
    if found != [(world, rank) for rank in range(world)]:
        raise ValueError(f"{actor} holds shards of ranks {[rank for _, rank in found]}, not of all {world}")
    with torch.serialization.safe_globals(PLAIN):  # tensors and where they belong; nothing else is unpickled
        ranks = [read_saved(actor / f"model_world_size_{world}_rank_{rank}.pt") for rank in range(world)]
    return {name: _joined(name, [rank[name] for rank in ranks]) for name in ranks[0]}


def _joined(name: str, parts: list[Any]) -> torch.Tensor:
    """A parameter from each rank's part: sharded over the mesh's last dimension, copied over the first."""
    if not isinstance(parts[0], DTensor):
        return parts[0]
    placement, shape = parts[0].placements[-1], parts[0].shape
    count = parts[0].device_mesh.mesh.shape[-1]
    local = [part._local_tensor for part in parts[:count]]
    whole = torch.cat(local, dim=placement.dim) if isinstance(placement, Shard) else local[0]
    if whole.shape != shape:
        raise ValueError(f"{name}: the ranks' parts make {tuple(whole.shape)}, not {tuple(shape)}")
    return whole
