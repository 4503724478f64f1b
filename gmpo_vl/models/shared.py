"""One packed row per micro-batch: every prompt once, its responses after it.

    [ P1 | r11 r12 ... | P2 | r21 ... ]      L tokens, batch size 1, nothing padded

Linear layers, norms and the MLP see each token once. A `Layout` tells attention who sees whom: a prompt sees
itself causally, a response sees its prompt and itself causally. A response's positions continue from its
prompt's end, so every token gets the result that a forward of `[prompt | response]` alone would give it. The
last token of a response predicts nothing and is not fed.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gmpo_vl.models.compat import own_attention
from gmpo_vl.models.geometry import language_model, rope_by_length
from gmpo_vl.models.layout import Layout, Varlen
from gmpo_vl.models.packing import Way
from gmpo_vl.models.states import carry_states

ATTENTION = "group_shared"

# Options that layers give their attention: those that are honoured, and those that change nothing.
_HONOURED = ("scaling", "sliding_window", "is_causal", "position_ids", "cache_position", "use_cache")


def group_shared_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: (1, heads, L, width) in, (1, L, heads, width) out.

    options: transformers' own (`scaling`, `dropout`, ...) and `layout`. Without a layout this is plain SDPA.
    """
    layout: Layout | None = options.pop("layout", None)
    scaling: float | None = options.get("scaling")
    if layout is None and query.shape[2] == 1 and not _beyond(options):
        return _one_token_a_row(query, key, value, attention_mask, scaling), None
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    layout.heard = True
    window = _window(module, options)
    query_LHD, key_LHD, value_LHD = (x[0].transpose(0, 1) for x in (query, key, value))
    dtype = computing_dtype(query)
    fits = query.shape[-1] == value.shape[-1] <= 256 and not layout.own_masks(window)
    flash = flash_for(query, dtype) if fits else None
    if flash is not None:
        query_LHD, key_LHD, value_LHD = (x.to(dtype) for x in (query_LHD, key_LHD, value_LHD))
        return _one_call(flash, query_LHD, key_LHD, value_LHD, layout.varlen, scaling, window)[None], None
    return _padded_calls(query_LHD, key_LHD, value_LHD, layout, scaling, window)[None], None


def _beyond(options: dict[str, Any]) -> list[str]:
    """Names of a layer's options that change its attention and that nothing here honours (`softcap`, `s_aux`,
    `head_mask`, ...). One that is not set changes nothing."""
    return [
        name
        for name, value in options.items()
        if name not in _HONOURED and value is not None and not (isinstance(value, int | float) and value == 0)
    ]


def _window(module: Any, options: dict[str, Any]) -> int | None:
    """Tokens that this layer sees, itself included; None: all before it. RuntimeError where it attends in a
    way that a packed row does not have."""
    if beyond := _beyond(options):
        raise RuntimeError(f"its attention is given {', '.join(beyond)}, which a packed row does not honour")
    if not options.get("is_causal", getattr(module, "is_causal", True)):
        raise RuntimeError("its attention is not causal")
    window = options.get("sliding_window")
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    kind = kinds[module.layer_idx] if kinds and hasattr(module, "layer_idx") else "full_attention"
    if window is None and kind not in ("full_attention", "attention"):
        raise RuntimeError(f"its attention of the kind {kind!r} does not say how far it sees")
    return window


def _one_token_a_row(
    query_BD1W: torch.Tensor,
    key_BKLW: torch.Tensor,
    value_BKLW: torch.Tensor,
    mask_B11L: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """(B, 1, heads, width), while sampling. Query heads that share keys become queries of one head: the keys,
    whose reading bounds the speed of decoding, are then read once and not once per head."""
    rows, heads, _, width = query_BD1W.shape
    query = query_BD1W.reshape(rows, key_BKLW.shape[1], -1, width)
    out = scaled_dot_product_attention(query, key_BKLW, value_BKLW, attn_mask=mask_B11L, scale=scaling)
    return out.reshape(rows, 1, heads, -1)


def computing_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype of attention. Under autocast it gets float32, which SDPA casts and flash-attn does not."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def flash_for(states: torch.Tensor, dtype: torch.dtype) -> Callable[..., torch.Tensor] | None:
    """flash-attn's kernel where it is installed and takes such states: half precision on CUDA."""
    return flash_varlen() if states.is_cuda and dtype in (torch.bfloat16, torch.float16) else None


@cache
def flash_varlen() -> Callable[..., torch.Tensor] | None:
    """flash-attn's kernel for sequences of different lengths, where it is installed."""
    if importlib.util.find_spec("flash_attn") is None:
        return None
    return importlib.import_module("flash_attn").flash_attn_varlen_func


def _one_call(
    flash: Callable[..., torch.Tensor],
    query_LHD: torch.Tensor,
    key_LHD: torch.Tensor,
    value_LHD: torch.Tensor,
    varlen: Varlen,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """(L, heads, width). flash-attn's causal attention ends at the last key: a segment sees its prefix."""
    # It counts the keys before a query's own.
    windowed = {} if window is None else {"window_size": (window - 1, 0)}
    return flash(
        query_LHD,
        key_LHD[varlen.key_K],
        value_LHD[varlen.key_K],
        varlen.query_ends_S1,
        varlen.key_ends_S1,
        varlen.longest_query,
        varlen.longest_key,
        softmax_scale=scaling,
        causal=True,
        **windowed,
    )


def _padded_calls(
    query_LHD: torch.Tensor,
    key_LHD: torch.Tensor,
    value_LHD: torch.Tensor,
    layout: Layout,
    scaling: float | None,
    window: int | None = None,
) -> torch.Tensor:
    """(L, heads, width) by SDPA, a call per block."""
    calls = layout.calls(window)
    repeats = query_LHD.shape[1] // key_LHD.shape[1]
    results = []
    for block in calls.blocks:
        keys, values = (x[block.key_mK].transpose(1, 2) for x in (key_LHD, value_LHD))
        if repeats > 1 and block.mask_m1QK is not None and query_LHD.is_cuda:
            # For a mask with grouped heads CUDA has only the kernel that stores all scores.
            keys, values = (x.repeat_interleave(repeats, dim=1) for x in (keys, values))
        out = scaled_dot_product_attention(
            query_LHD[block.query_mQ].transpose(1, 2),
            keys,
            values,
            attn_mask=block.mask_m1QK,
            is_causal=block.mask_m1QK is None,
            scale=scaling,
            enable_gqa=keys.shape[1] != query_LHD.shape[1],
        )
        results.append(out.transpose(1, 2).flatten(0, 1)[block.real_N])
    return torch.cat(results)[calls.inverse_L]


AttentionInterface.register(ATTENTION, group_shared_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


# Kinds of models whose packed row and padded rows the tests hold against their own forward. Any other kind is
# tried: it shares prompts where a run's parity check finds the two equal, else its rollouts go one at a time.
KNOWN = {"qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"}
KNOWN |= {"qwen3_5", "qwen3_5_moe", "qwen3_next"}  # with recurrent states (states.py)


def is_known(config: Any) -> bool:
    """Need the packed row of such a model not be proved before it is used?"""
    return config.model_type in KNOWN and sharing_obstacle(config) is None


def first_way(config: Any, share_prefix: str = "auto") -> Way:
    """How responses go through such a model until a run's parity check says more. The padded rows of a kind
    that is not known are not proved either. share_prefix: as in `worker.actor.share_prefix`."""
    if not is_known(config):
        return "public"
    return "plain" if share_prefix == "never" else "shared"


def sharing_obstacle(config: Any) -> str | None:
    """Why a model of this configuration cannot go through one packed row, in words; None where it may."""
    kind = config.model_type
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False) or own_attention(kind):
        return f"the layers of {kind!r} cannot be told who attends to whom"
    if rope := rope_by_length(text):
        return f"rotary positions of the kind {rope!r} depend on how long a text is"
    if getattr(text, "attention_dropout", 0.0):
        return "attention_dropout is not 0"
    if getattr(text, "hidden_size_per_layer_input", 0):
        return f"the layers of this {kind!r} take per_layer_inputs, which are made from a row's own ids"
    if text._attn_implementation == "eager":
        return f"this {kind!r} attends in a way that SDPA does not have"
    return None


def use_group_attention(model: PreTrainedModel) -> None:
    """Let the decoder's layers take a `layout`. Everything else they do, generation included, stays SDPA.

    Only warns where the model cannot: its rollouts then go one at a time through its public inputs.
    """
    obstacle = sharing_obstacle(model.config)
    if obstacle is not None:
        warnings.warn(f"prompts are not shared: {obstacle}; one rollout at a time instead", stacklevel=3)
        return
    decoder = language_model(model)
    for module in decoder.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = ATTENTION
    carry_states(model)
