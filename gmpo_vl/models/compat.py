"""Differences between transformers 4.57 and 5.x, all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoImageProcessor, PreTrainedModel

from gmpo_vl.storage.files import read_object, write_json

TRANSFORMERS_5 = int(transformers.__version__.split(".")[0]) >= 5

# 4.57 asks `text_config` for what these configurations say, and vLLM 0.11 so finds the model's class.
_ASKS_TEXT_CONFIG = ("qwen2_vl", "qwen2_5_vl")
# What 5.x has moved. 4.57 takes its own defaults for what it does not find, without a word.
_MOVED = ("rope_theta", "rope_scaling", "partial_rotary_factor", "num_experts", "tie_word_embeddings")


# The JSON files that transformers reads for each part of a model. Of some that are damaged it says nothing.
PARTS = {
    "configuration": ("config.json",),
    "tokenizer": (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
    ),
    "image processor": ("config.json", "preprocessor_config.json", "processor_config.json"),
    "model": ("config.json", "generation_config.json", "model.safetensors.index.json"),
}
DOWNLOAD = "copy or download the model again"


def save_pretrained(model: Any, folder: Path) -> None:
    """Weights and config.json of a model, or its adapter, as every supported version of transformers and vLLM read them."""
    settings: dict[str, Any] = {}
    if TRANSFORMERS_5 and isinstance(model, PreTrainedModel) and model.config.model_type == "qwen3_vl_moe":
        # 5.x has these experts as (experts, out, in), reads the published (experts, in, out), and does not write it.
        weights = {
            name: value.transpose(1, 2) if ".mlp.experts." in name else value
            for name, value in model.state_dict().items()
        }
        settings = {"state_dict": weights, "save_original_format": False}
    model.save_pretrained(folder, safe_serialization=True, **settings)
    complete_config(folder)


def complete_config(folder: Path) -> None:
    """config.json of a model folder, if there is one, says in 4.57's words, too, what 5.x has written in its own."""
    path = folder / "config.json"
    if path.exists():
        write_json(path, with_old_names(json.loads(path.read_text(encoding="utf-8"))))


def with_old_names(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json of 5.x with everything that 4.57 looks for elsewhere, and which 5.x reads as before. What stands there
    already stays."""
    whole = _with_old_names(config)
    if isinstance(text := config.get("text_config"), dict):
        whole["text_config"] = text = _with_old_names(text)
        if config.get("tie_word_embeddings"):  # which 4.57 asks of the decoder alone
            text["tie_word_embeddings"] = True
        if config.get("model_type") in _ASKS_TEXT_CONFIG and config.get("architectures"):
            text["architectures"] = text.get("architectures") or config["architectures"]
        if "rope_scaling" in text:  # 4.57 repeats what a flat file has; 5.x stumbles over it
            whole.pop("rope_scaling", None)
    return whole


def _with_old_names(config: dict[str, Any]) -> dict[str, Any]:
    old: dict[str, Any] = {}
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:  # not where every kind of layer has its own
        scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "type")}
        old = {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}
        if "partial_rotary_factor" in scaling:
            old["partial_rotary_factor"] = scaling.pop("partial_rotary_factor")
        if scaling == {"rope_type": "default"}:
            old["rope_scaling"] = None
    if "num_local_experts" in config:
        old["num_experts"] = config["num_local_experts"]
    whole = old | config
    if (
        "rope_type" in rope
    ):  # 5.x writes its older name beside it once, and not again when the model was loaded from here
        whole["rope_parameters"] = {key: value for key, value in rope.items() if key != "type"}
    return whole


def check_config(folder: Path) -> None:
    """Raise ValueError where this version of transformers would take its defaults for what a config.json of 5.x says."""
    if TRANSFORMERS_5:
        return
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    whole, text = with_old_names(config), config.get("text_config") or {}
    missed = [key for key in _MOVED if key in whole and key not in config]
    missed += [key for key in _MOVED if whole.get("text_config", {}).get(key) != text.get(key)]
    if missed:
        raise ValueError(
            f"{folder / 'config.json'} was written by transformers 5; transformers {transformers.__version__} would not find "
            f'{", ".join(missed)} in it and take its own defaults. This command adds them: python -c "from pathlib import '
            f"Path; from gmpo_vl.models.compat import complete_config; complete_config(Path('{folder}'))\""
        )


@contextmanager
def no_code_of(folder: str | Path, part: str) -> Iterator[dict[str, Any]]:
    """Gives the argument of every `from_pretrained` with which code in a model's folder neither runs nor is asked about.

    Raises ValueError in words of ours where the part (a key of `PARTS`) cannot be had without it, and where a JSON file that it
    is made of is damaged, or says what transformers stumbles over.
    """
    files = [path for name in PARTS[part] if (path := Path(folder) / name).exists()]
    for path in files:
        read_object(path, DOWNLOAD)
    try:
        yield {"trust_remote_code": False}
    except ValueError as error:
        if "trust_remote_code" not in str(error) and "does not recognize this architecture" not in str(error):
            raise
        raise ValueError(
            f"{folder}: transformers {transformers.__version__} has no class for its {part}, and code from a model's folder "
            "is never run here; take a model that transformers itself knows, or a newer transformers"
        ) from error
    except (TypeError, AttributeError, LookupError, StrictDataclassError) as error:
        raise ValueError(
            f"{folder}: transformers {transformers.__version__} can make no {part} of {', '.join(path.name for path in files)}: "
            f"{' '.join(str(error).split())[:300]} ({type(error).__name__}). To go on, {DOWNLOAD}"
        ) from error


def load_image_processor(folder: Path) -> Any:
    """The image processor of a model folder, Pillow backend: torchvision is not needed, and is not used if present."""
    backend: dict[str, Any] = {"backend": "pil"} if TRANSFORMERS_5 else {"use_fast": False}
    with no_code_of(folder, "image processor") as no_code:
        return AutoImageProcessor.from_pretrained(folder, **backend, **no_code)


def image_features(model: PreTrainedModel, patches: torch.Tensor, grid_thw_N3: torch.Tensor) -> torch.Tensor:
    """Merged features (1 + D, image tokens, hidden) of all images, in order; D of them are DeepStack's (Qwen3-VL).

    4.57 returns a tensor, or a pair with DeepStack; 5.x an output object.
    """
    visual = model.model.visual
    out = visual(patches, grid_thw=grid_thw_N3)  # which casts them to what it computes in
    if isinstance(out, torch.Tensor):
        return out[None]
    if isinstance(out, tuple):
        merged, deeper = out
    else:
        merged, deeper = out.pooler_output, getattr(out, "deepstack_features", ())
    return torch.stack([merged, *deeper])


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Qwen2-VL's target size (height, width) in pixels; ValueError for aspect ratios over 200."""
    if TRANSFORMERS_5:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as resize
    else:
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as resize
    return resize(height, width, factor, min_pixels, max_pixels)


def own_attention(model_type: str) -> bool:
    """Does this decoder's attention go round transformers' attention interface? Only Qwen2-MoE's does, before 5.0."""
    return model_type == "qwen2_moe" and not TRANSFORMERS_5


def rope_index(model: PreTrainedModel, ids_BP: torch.Tensor, image_grid_thw: torch.Tensor) -> torch.Tensor:
    """transformers' own mRoPE positions (3, B, P) of unpadded prompts: what `positions.py` is tested against."""
    kwargs: dict[str, Any] = {"image_grid_thw": image_grid_thw if len(image_grid_thw) else None}
    if TRANSFORMERS_5:
        kwargs["mm_token_type_ids"] = (ids_BP == model.config.image_token_id).int()
    return model.model.get_rope_index(ids_BP, **kwargs)[0]


def enable_gradient_checkpointing(model: PreTrainedModel) -> None:
    """Recompute every layer in the backward pass. 5.23 renamed the method."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def router_logits(output: Any) -> torch.Tensor:
    """Logits (tokens, experts) of what a router gives: 4.57's is a linear layer, 5.x's also chooses."""
    return output[0] if isinstance(output, tuple) else output
