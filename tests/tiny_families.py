"""Tiny random models of the other families: what the tests hold the shared forward against.

save_tiny_family(folder, "qwen3_vl")    a Hugging Face folder as of `tiny.save_tiny`: same tokenizer,
                                        random fp32 weights
save_tiny_text(folder)                  a Qwen2, text only
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from gmpo_vl.models.tiny import (
    IMAGE_PROCESSOR,
    SIZES,
    random_model,
    save_folder,
    text_config,
    tiny_qwen2_5_vl_config,
    tiny_tokenizer,
)

SIZE = SIZES["test"]
# Two of four experts a token. 4.57 and 5.x name and store experts differently, so weights differ between the
# two. No matrix of an expert is square: 5.x tells by its shape which way round it was stored.
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "output_router_logits": False,
}
# Gated delta-net: two heads of keys, four of values, none as wide as another width.
DELTA_NET = {
    "num_hidden_layers": 4,
    "full_attention_interval": 4,
    "head_dim": 64,
    "attention_bias": False,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 24,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
MROPE = {"rope_type": "default", "mrope_section": [4, 6, 6]}


def _qwen3(tokenizer: Any) -> dict[str, Any]:
    return {**text_config(SIZE, tokenizer), "model_type": "qwen3", "head_dim": 32, "attention_bias": False}


def _qwen2_moe(tokenizer: Any) -> dict[str, Any]:
    shared = {"shared_expert_intermediate_size": 64}
    return {**text_config(SIZE, tokenizer), **EXPERTS, **shared, "model_type": "qwen2_moe"}


def _qwen3_moe(tokenizer: Any) -> dict[str, Any]:
    return {**_qwen3(tokenizer), **EXPERTS, "model_type": "qwen3_moe"}


def _qwen2_vl(tokenizer: Any) -> dict[str, Any]:
    config = tiny_qwen2_5_vl_config(SIZE, tokenizer)
    names = {"model_type": "qwen2_vl_text", "architectures": ["Qwen2VLForConditionalGeneration"]}
    config["text_config"] |= names
    config["vision_config"] = {
        "model_type": "qwen2_vl",
        "depth": 2,
        "embed_dim": 64,
        "hidden_size": SIZE.hidden,
        "mlp_ratio": 2,
        "num_heads": 2,
        "in_channels": 3,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "initializer_range": SIZE.initializer_range,
    }
    return {**config, "model_type": "qwen2_vl"}


def _qwen3_vl(tokenizer: Any) -> dict[str, Any]:
    config = tiny_qwen2_5_vl_config(SIZE, tokenizer)
    config["text_config"] = {
        **_qwen3(tokenizer),
        "model_type": "qwen3_vl_text",
        "rope_scaling": {**MROPE, "mrope_interleaved": True},
    }
    config["vision_config"] = {
        "model_type": "qwen3_vl",
        "depth": 3,
        "hidden_size": 64,
        "hidden_act": "gelu_pytorch_tanh",
        "intermediate_size": 128,
        "num_heads": 2,
        "in_channels": 3,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": SIZE.hidden,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "initializer_range": SIZE.initializer_range,
    }
    return {**config, "model_type": "qwen3_vl"}


def _qwen3_vl_moe(tokenizer: Any) -> dict[str, Any]:
    config = _qwen3_vl(tokenizer)
    config["text_config"] = {**config["text_config"], **EXPERTS, "model_type": "qwen3_vl_moe_text"}
    config["vision_config"] = {**config["vision_config"], "model_type": "qwen3_vl_moe"}
    return {**config, "model_type": "qwen3_vl_moe"}


def _qwen3_next(tokenizer: Any) -> dict[str, Any]:
    """In the published form: `layer_types` follow from the interval. One layer in four has attention."""
    return {
        **text_config(SIZE, tokenizer),
        **EXPERTS,
        **DELTA_NET,
        "model_type": "qwen3_next",
        "rope_scaling": None,
        "partial_rotary_factor": 0.25,
        "shared_expert_intermediate_size": 64,
    }


def _qwen3_5(tokenizer: Any) -> dict[str, Any]:
    config = _qwen3_vl(tokenizer)
    text = {key: value for key, value in text_config(SIZE, tokenizer).items() if key != "rope_theta"}
    config["text_config"] = {
        **text,
        **DELTA_NET,
        "model_type": "qwen3_5_text",
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "attn_output_gate": True,
        "mamba_ssm_dtype": "float32",
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": SIZE.rope_theta,
            "partial_rotary_factor": 0.25,
            "mrope_interleaved": True,
            "mrope_section": [3, 3, 2],
        },
    }
    config["vision_config"] |= {"model_type": "qwen3_5", "deepstack_visual_indexes": []}
    return {**config, "model_type": "qwen3_5"}


def _qwen3_5_moe(tokenizer: Any) -> dict[str, Any]:
    config = _qwen3_5(tokenizer)
    names = {"model_type": "qwen3_5_moe_text", "shared_expert_intermediate_size": 64}
    config["text_config"] |= {**EXPERTS, **names}
    del config["text_config"]["intermediate_size"]
    config["vision_config"] |= {"model_type": "qwen3_5_moe"}
    return {**config, "model_type": "qwen3_5_moe"}


FAMILIES: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "qwen3": ("Qwen3ForCausalLM", _qwen3),
    "qwen2_moe": ("Qwen2MoeForCausalLM", _qwen2_moe),
    "qwen3_moe": ("Qwen3MoeForCausalLM", _qwen3_moe),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", _qwen2_vl),
    "qwen3_vl": ("Qwen3VLForConditionalGeneration", _qwen3_vl),
    "qwen3_vl_moe": ("Qwen3VLMoeForConditionalGeneration", _qwen3_vl_moe),
    "qwen3_next": ("Qwen3NextForCausalLM", _qwen3_next),
    "qwen3_5": ("Qwen3_5ForConditionalGeneration", _qwen3_5),
    "qwen3_5_moe": ("Qwen3_5MoeForConditionalGeneration", _qwen3_5_moe),
}


def save_tiny_family(folder: str | Path, family: str, seed: int = 0) -> Path:
    """Write a tiny model of `family` (a model_type in FAMILIES); returns the folder.

    Skips the test where this version of transformers has no such model.
    """
    architecture, config_of = FAMILIES[family]
    if not hasattr(transformers, architecture):
        pytest.skip(f"transformers {transformers.__version__} has no {architecture}")
    # The processor of Qwen3-VL and Qwen3.5 differs in patch size and normalisation.
    processor = {
        **IMAGE_PROCESSOR,
        "patch_size": 16,
        "processor_class": "Qwen3VLProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    new = family.startswith(("qwen3_vl", "qwen3_5"))
    return _save(folder, architecture, config_of, seed, processor if new else None)


def save_tiny_text(folder: str | Path, seed: int = 0) -> Path:
    """Write a text-only Qwen2 of 0.2 M parameters; returns the folder."""
    return _save(folder, "Qwen2ForCausalLM", qwen2, seed)


def qwen2(tokenizer: Any) -> dict[str, Any]:
    return {"model_type": "qwen2", **text_config(SIZE, tokenizer)}


def _save(
    folder: str | Path,
    architecture: str,
    config_of: Callable[[Any], dict[str, Any]],
    seed: int,
    image_processor: dict[str, Any] | None = None,
) -> Path:
    tokenizer = tiny_tokenizer()
    config = {**config_of(tokenizer), "architectures": [architecture]}
    model = random_model(config, SIZE.initializer_range, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("A_log"):
                parameter.sub_(4)  # a gated delta-net remembers a hundred tokens, not two
    return save_folder(folder, model, config, tokenizer, image_processor)
