"""What a model's transformers configuration says about its shape, and where its parts are: widths and names,
once.

This file knows Qwen2, 2.5, 3 and 3.5, their mixtures of experts and their VL models. It reads any other
decoder by the names that transformers uses; sizing/parameters.py holds that against the model itself. What
else differs between kinds of models: families/__init__.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

# Kinds whose pictures this project prepares itself (families/qwen.py).
QWEN_VL = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")

# Kinds that transformers 5 alone knows: EasyR1 and vLLM 0.11 run with 4.57.
SINCE_5 = ("qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text")

# Linear layers of the ViTs of Qwen2-VL, Qwen2.5-VL and Qwen3-VL, one of each kind.
VISION_LINEARS = tuple(
    f"model.visual.{name}"
    for name in (
        *(f"blocks.0.attn.{layer}" for layer in ("qkv", "proj")),
        *(f"blocks.0.mlp.{layer}" for layer in ("gate_proj", "up_proj", "down_proj", "fc1", "linear_fc1")),
        *("merger.mlp.0", "merger.linear_fc1", "deepstack_merger_list.0.linear_fc1"),
    )
)

# What transformers calls a ViT (PreTrainedModel.get_encoder), and the second one of DeepSeek-VL.
TOWERS = ("vision_tower", "visual", "vision_model", "vision_encoder", "image_tower", "high_res_vision_model")


class UnknownShape(ValueError):
    """A configuration does not say, by the usual names, how wide its model is."""


def inner_model(model: PreTrainedModel) -> Any:
    """The model without its head."""
    return getattr(model, "model", None) or model.base_model


def language_model(model: PreTrainedModel) -> Any:
    """The decoder stack: embeddings in, final hidden states out."""
    inner = inner_model(model)
    named = (getattr(inner, name, None) for name in ("language_model", "text_model", "decoder"))
    return next((decoder for decoder in named if decoder is not None), inner)


def first_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The first layer of the decoder, then of the ViT where there is one, whatever the model calls them."""
    decoder = language_model(model)
    inside = set(decoder.modules())
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 0]
    first = [next((m[0] for m in stacks if (m in inside) == among), None) for among in (True, False)]
    return [layer for layer in first if layer is not None]


def vision_towers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The ViTs by their names in the model, without what stands between them and the decoder (a projector);
    none for a text-only model and for one whose inside is not known."""
    found: dict[str, torch.nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if name.rpartition(".")[2] in TOWERS and not inside:
            found[name] = module
    return found


def vision_tower(model: torch.nn.Module) -> Any | None:
    """The first of the ViTs; None where there is none."""
    return next(iter(vision_towers(model).values()), None)


def in_towers(towers: Iterable[str]) -> str | None:
    """A pattern of the names of all that is in these parts of a model, as peft's `exclude_modules` takes it;
    None without parts."""
    return "|".join(rf"{re.escape(name)}\..*" for name in towers) or None


@dataclass(frozen=True)
class TextShape:
    """The decoder. queries, keys: width of all heads together, in layers with attention. mlp: width of the
    MLP that a token goes through, all of its experts together. gates: rows of the router, and of the shared
    expert's gate. routed: experts that a token goes to. head_norms: queries and keys are normed, which no
    configuration says."""

    layers: int
    hidden: int
    heads: int
    queries: int
    keys: int
    mlp: int
    gates: int
    vocabulary: int
    routed: int = 0
    head_norms: bool = False


@dataclass(frozen=True)
class VisionShape:
    """The ViT. mlp: width inside its MLP; gated: of three matrices, not two. out: width of an image token.

    patch: values of a patch. merge: patches in height and width that one image token merges. deepstack:
    decoder layers that get features of their own. whole: layers that see the whole picture; the others see
    `window_patches` at a time.
    """

    layers: int
    hidden: int
    mlp: int
    gated: bool
    out: int
    patch: int
    merge: int
    deepstack: int
    whole: int
    window_patches: int


@dataclass(frozen=True)
class DeltaShape:
    """The decoder's layers with a recurrent state (gated delta-net), in place of attention. keys, values:
    width of all heads together; heads: of the values, each with a state of (key_width, values / heads).
    kernel: width of the convolution over queries, keys and values."""

    layers: int
    keys: int
    values: int
    heads: int
    key_width: int
    kernel: int

    @property
    def convolved(self) -> int:
        """Channels of the convolution."""
        return 2 * self.keys + self.values

    @property
    def state(self) -> int:
        """Elements of all heads' states."""
        return self.key_width * self.values

    def state_bytes(self, element_bytes: int) -> int:
        """Of one row's states in one layer, as `state_bytes`."""
        return self.convolved * self.kernel * element_bytes + self.state * 4


def experts(config: Any) -> tuple[int, int]:
    """Experts of a layer, and how many of them a token goes to; (0, 0) for a dense model."""
    text = config.get_text_config()
    count = int(getattr(text, "num_experts", None) or 0)
    return count, int(text.num_experts_per_tok) if count else 0


def text_shape(config: Any) -> TextShape:
    """Raises UnknownShape where the names that other decoders have are missing.

    mlp: 0 where the configuration does not say it.
    """
    try:
        return _text_shape(config)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:  # the last: of different layers
        raise UnknownShape(
            f"{config.model_type!r} does not say its widths as other models do: {error}"
        ) from error


def _text_shape(config: Any) -> TextShape:
    text = config.get_text_config()
    heads = text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    count, active = experts(config)
    gates = 0
    if count == 0:
        mlp = getattr(text, "intermediate_size", None) or 0
    else:
        shared = getattr(text, "shared_expert_intermediate_size", 0)
        mlp = active * getattr(text, "moe_intermediate_size", 0) + shared
        gates = count + (1 if shared else 0)
    return TextShape(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        heads=heads,
        queries=heads * head_dim,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * head_dim,
        mlp=mlp,
        gates=gates,
        vocabulary=text.vocab_size,
        routed=active,
    )


def rope_by_length(text: Any) -> str | None:
    """The kind of a decoder's rotary positions where a token's depend on how long its text is, or will be."""
    # 4.57 has another name for them. Kinds of layers may each have their own.
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    found = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    kinds = {one.get("rope_type") or one.get("type") for one in found}
    return next((kind for kind in ("dynamic", "longrope") if kind in kinds), None)


def delta_shape(config: Any) -> DeltaShape | None:
    """None for a decoder without such layers, and where they are no gated delta-nets."""
    text = config.get_text_config()
    layers = sum(kind == "linear_attention" for kind in getattr(text, "layer_types", None) or ())
    if layers == 0 or not hasattr(text, "linear_num_value_heads"):
        return None
    return DeltaShape(
        layers=layers,
        keys=text.linear_num_key_heads * text.linear_key_head_dim,
        values=text.linear_num_value_heads * text.linear_value_head_dim,
        heads=text.linear_num_value_heads,
        key_width=text.linear_key_head_dim,
        kernel=text.linear_conv_kernel_dim,
    )


def vision_shape(config: Any) -> VisionShape | None:
    """None for a text-only model, and for a ViT that is not one of Qwen's."""
    vision = getattr(config, "vision_config", None)
    if vision is None or config.model_type not in QWEN_VL:
        return None
    kind = vision.model_type.removesuffix("_vision")
    # Qwen2-VL says `embed_dim` for what the others call `hidden_size`.
    first, windows = kind == "qwen2_vl", kind == "qwen2_5_vl"
    hidden = vision.embed_dim if first else vision.hidden_size
    return VisionShape(
        layers=vision.depth,
        hidden=hidden,
        mlp=int(hidden * vision.mlp_ratio) if first else vision.intermediate_size,
        gated=windows,
        patch=3 * vision.temporal_patch_size * vision.patch_size**2,
        merge=vision.spatial_merge_size,
        out=vision.hidden_size if first else vision.out_hidden_size,
        deepstack=len(getattr(vision, "deepstack_visual_indexes", None) or ()),
        whole=len(vision.fullatt_block_indexes) if windows else vision.depth,
        window_patches=(vision.window_size // vision.patch_size) ** 2 if windows else 0,
    )


def state_bytes(config: Any, element_bytes: int) -> int:
    """Memory of one row's running states in all layers of a model; 0 for a model without such layers.

    element_bytes: of a number of the convolution's state. The matrices are float32 whatever the model is, as
    transformers keeps them.
    """
    delta = delta_shape(config)
    return 0 if delta is None else delta.layers * delta.state_bytes(element_bytes)


def token_bytes(config: Any, element_bytes: int) -> int:
    """Memory of one token's keys and values, of all layers that keep them."""
    shape, delta = text_shape(config), delta_shape(config)
    return 2 * (shape.layers - (delta.layers if delta else 0)) * shape.keys * element_bytes
