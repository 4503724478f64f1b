"""config.json of tiny models of the families, each of a function from token to id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SIGLIP = {**VISION, "model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14}
SIGLIP |= {"vision_use_head": False}


def decoder(kind: str, **values: Any) -> dict[str, Any]:
    return {**TEXT, "model_type": kind, **values}


def gemma3(id_of: Callable[[str], int]) -> dict[str, Any]:
    layers = ["sliding_attention", "sliding_attention", "full_attention"]
    windows = {"num_hidden_layers": 3, "layer_types": layers, "sliding_window": 24}
    return {
        "model_type": "gemma3",
        "text_config": decoder("gemma3_text", **windows, **GEMMA, rope_local_base_freq=1e4),
        "vision_config": SIGLIP,
        "mm_tokens_per_image": 4,
        "boi_token_index": id_of("<start_of_image>"),
        "eoi_token_index": id_of("<end_of_image>"),
        "image_token_index": id_of("<image_soft_token>"),
    }


def gemma4(id_of: Callable[[str], int]) -> dict[str, Any]:
    layers = ["sliding_attention", "sliding_attention", "full_attention"]
    text = decoder(
        "gemma4_text", num_hidden_layers=3, layer_types=layers, sliding_window=24, tie_word_embeddings=True
    )
    del text["rope_theta"]
    vision = {**VISION, "num_key_value_heads": 2, "head_dim": 16, "patch_size": 16}
    return {
        "model_type": "gemma4",
        "text_config": {**text, "hidden_size_per_layer_input": 16, "global_head_dim": 32},
        "vision_config": {**vision, "model_type": "gemma4_vision", "position_embedding_size": 256},
        "audio_config": None,
        "image_token_id": id_of("<|image|>"),
        "boi_token_id": id_of("<|image>"),
        "eoi_token_id": id_of("<image|>"),
        "video_token_id": id_of("<|video|>"),
        "audio_token_id": id_of("<|audio|>"),
        "boa_token_id": id_of("<|audio>"),
        "eoa_token_index": id_of("<audio|>"),
    }


def internvl(id_of: Callable[[str], int]) -> dict[str, Any]:
    vision = {**VISION, "model_type": "internvl_vision", "image_size": [56, 56], "patch_size": [14, 14]}
    return {
        "model_type": "internvl",
        "text_config": decoder("qwen2"),
        "vision_config": vision,
        "image_token_id": id_of("<IMG_CONTEXT>"),
        "image_seq_length": 4,
    }


def llava(id_of: Callable[[str], int]) -> dict[str, Any]:
    vision = {**VISION, "num_hidden_layers": 3, "image_size": 56, "patch_size": 14, "projection_dim": 32}
    return {
        "model_type": "llava",
        "text_config": decoder("llama"),
        "vision_config": {**vision, "model_type": "clip_vision_model"},
        "image_token_index": id_of("<image>"),
        "image_seq_length": 16,
    }


GEMMA = {"query_pre_attn_scalar": 32, "tie_word_embeddings": True}
PINS = [[56, 112], [112, 56], [112, 112]]


def llava_onevision(id_of: Callable[[str], int]) -> dict[str, Any]:
    return {
        "model_type": "llava_onevision",
        "text_config": decoder("qwen2"),
        "vision_config": SIGLIP,
        "image_token_index": id_of("<image>"),
        "video_token_index": id_of("<video>"),
        "image_grid_pinpoints": PINS,
    }


def idefics3(kind: str) -> Callable[[Callable[[str], int]], dict[str, Any]]:
    def config(id_of: Callable[[str], int]) -> dict[str, Any]:
        return {
            "model_type": kind,
            "text_config": decoder("llama"),
            "vision_config": {**VISION, "model_type": f"{kind}_vision", "image_size": 56, "patch_size": 14},
            "image_token_id": id_of("<image>"),
            "scale_factor": 2,
            "pad_token_id": id_of("<|endoftext|>"),
            "tie_word_embeddings": False,
        }

    return config


def glm(kind: str, text: str, vision: str) -> Callable[[Callable[[str], int]], dict[str, Any]]:
    def config(id_of: Callable[[str], int]) -> dict[str, Any]:
        rope = {"rope_type": "default", "mrope_section": [4, 6, 6]}
        experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
        experts |= {"n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}
        return {
            "model_type": kind,
            "text_config": decoder(
                text, rope_scaling=rope, partial_rotary_factor=1.0, **(experts if "moe" in text else {})
            ),
            "vision_config": {
                "model_type": vision,
                "depth": 2,
                "hidden_size": 32,
                "num_heads": 2,
                "image_size": 56,
                "patch_size": 14,
                "out_hidden_size": 64,
                "intermediate_size": 64,
            },
            "image_token_id": id_of("<|image|>"),
            "video_token_id": id_of("<|video|>"),
            "image_start_token_id": id_of("<|begin_of_image|>"),
            "image_end_token_id": id_of("<|end_of_image|>"),
            "video_start_token_id": id_of("<|begin_of_video|>"),
            "video_end_token_id": id_of("<|end_of_video|>"),
        }

    return config


def mistral3(id_of: Callable[[str], int]) -> dict[str, Any]:
    vision = {**VISION, "model_type": "pixtral", "head_dim": 16, "image_size": 112, "patch_size": 14}
    return {
        "model_type": "mistral3",
        "text_config": decoder("mistral", sliding_window=None),
        "vision_config": {**vision, "rope_theta": 10000.0},
        "image_token_index": id_of("[IMG]"),
        "spatial_merge_size": 2,
        "vision_feature_layer": -1,
    }


def minicpmv4_6(id_of: Callable[[str], int]) -> dict[str, Any]:
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "mrope_interleaved": True}
    linear = {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2}
    linear |= {"linear_num_value_heads": 4, "linear_conv_kernel_dim": 4}
    text = decoder("qwen3_5_text", rope_parameters={**rope, "rope_theta": 1e4, "partial_rotary_factor": 1.0})
    del text["rope_theta"]
    layers = {"num_hidden_layers": 4, "layer_types": ["linear_attention"] * 3 + ["full_attention"]}
    vision = {**VISION, "num_hidden_layers": 3, "image_size": 112, "patch_size": 14, "insert_layer_id": 1}
    return {
        "model_type": "minicpmv4_6",
        "text_config": {**text, **linear, **layers},
        "vision_config": vision,
        "insert_layer_id": 1,
        "image_size": 112,
        "image_token_id": id_of("<|image_pad|>"),
        "video_token_id": id_of("<|video_pad|>"),
    }
