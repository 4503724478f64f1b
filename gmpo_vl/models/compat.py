"""Differences between transformers 4.57 and 5.x, all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoImageProcessor, PreTrainedModel

TRANSFORMERS_5 = int(transformers.__version__.split(".")[0]) >= 5


@contextmanager
def no_code_of(folder: str | Path, part: str) -> Iterator[dict[str, Any]]:
    """Gives the argument of every `from_pretrained` with which code in a model's folder neither runs nor is asked about.

    Raises ValueError in words of ours where the part (`configuration`, `tokenizer`, ...) cannot be had without it.
    """
    try:
        yield {"trust_remote_code": False}
    except ValueError as error:
        if "trust_remote_code" not in str(error) and "does not recognize this architecture" not in str(error):
            raise
        raise ValueError(
            f"{folder}: transformers {transformers.__version__} has no class for its {part}, and code from a model's folder "
            "is never run here; take a model that transformers itself knows, or a newer transformers"
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
    out = visual(patches.to(visual.dtype), grid_thw=grid_thw_N3)
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
