"""config.json of the models that the shipped configurations name, as far as size depends on it."""

QWEN2 = {"model_type": "qwen2", "tie_word_embeddings": False}
MATH_7B = {
    **QWEN2, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064,
}  # fmt: skip
QWEN2_1_5B = {
    **QWEN2, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
QWEN3_A3B = {
    "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48,
    "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
    "num_experts_per_tok": 8, "norm_topk_prob": True, "vocab_size": 151936, "tie_word_embeddings": False,
}  # fmt: skip
SIGHT = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
    "patch_size": 14,
    "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip


def _qwen2_5_vl(text: dict, **vision) -> dict:
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
    return {
        "model_type": "qwen2_5_vl",
        "text_config": {**MATH_7B, **rope, **text, "model_type": "qwen2_5_vl_text"},
        "vision_config": {**SIGHT, **vision},
        "tie_word_embeddings": text.get("tie_word_embeddings", False),
    }


def _qwen3_vl(kind: str, text: dict, vision: dict) -> dict:
    rope = {
        "rope_scaling": {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    }
    return {
        "model_type": kind,
        "text_config": {**text, **rope, "model_type": f"{kind}_text"},
        "vision_config": {"patch_size": 16, "num_heads": 16, "num_position_embeddings": 2304, **vision},
        "tie_word_embeddings": text["tie_word_embeddings"],
    }


SHAPES = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _qwen2_5_vl(
        {
            "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
        },
        out_hidden_size=2048,
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen2_5_vl({}),
    "Qwen/Qwen2.5-VL-32B-Instruct": _qwen2_5_vl(
        {
            "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
        },
        intermediate_size=3456,
        out_hidden_size=5120,
    ),
    "Qwen/Qwen3-VL-4B-Instruct": _qwen3_vl(
        "qwen3_vl",
        {
            "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True,
        },
        {
            "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "out_hidden_size": 2560,
            "deepstack_visual_indexes": [5, 11, 17],
        },
    ),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": _qwen3_vl(
        "qwen3_vl_moe",
        QWEN3_A3B,
        {
            "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "out_hidden_size": 2048,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    ),
    # The defaults of transformers' Qwen3_5TextConfig and Qwen3_5VisionConfig, with the width between the two.
    "Qwen/Qwen3.5-9B": {
        "model_type": "qwen3_5", "text_config": {"model_type": "qwen3_5_text"},
        "vision_config": {"model_type": "qwen3_5", "out_hidden_size": 4096}, "tie_word_embeddings": False,
    },
    "OpenGVLab/InternVL3-8B-hf": {
        "model_type": "internvl", "tie_word_embeddings": False,
        "text_config": {**MATH_7B, "vocab_size": 151674},
        "vision_config": {
            "model_type": "internvl_vision", "hidden_size": 1024, "intermediate_size": 4096,
            "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": [448, 448],
            "patch_size": [14, 14],
        },
    },
    "google/gemma-3-4b-it": {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
            "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "vocab_size": 262208, "sliding_window": 1024,
        },
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
            "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 896, "patch_size": 14,
            "vision_use_head": False,
        },
    },
    "Qwen/Qwen2.5-Math-1.5B": QWEN2_1_5B,
    "Qwen/Qwen2.5-1.5B-Instruct": QWEN2_1_5B,
    "Qwen/Qwen2.5-Math-7B": MATH_7B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": MATH_7B,
    "Qwen/Qwen3-30B-A3B": {**QWEN3_A3B, "model_type": "qwen3_moe"},
    # recipes/build_moe.py of Qwen2.5-0.5B-Instruct
    "models/qwen2_5_0_5b_moe": {
        "model_type": "qwen2_moe", "hidden_size": 896, "intermediate_size": 4864,
        "moe_intermediate_size": 4864,
        "shared_expert_intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 1, "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
}  # fmt: skip

# Published: parameters of the whole model, in billions.
BILLIONS = {
    "Qwen/Qwen2.5-VL-3B-Instruct": 3.75,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8.29,
    "Qwen/Qwen2.5-VL-32B-Instruct": 33.5,
    "Qwen/Qwen3-VL-4B-Instruct": 4.44,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": 31.1,
    "Qwen/Qwen2.5-Math-1.5B": 1.54,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.54,
    "Qwen/Qwen2.5-Math-7B": 7.62,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7.62,
    "Qwen/Qwen3-30B-A3B": 30.5,
    "OpenGVLab/InternVL3-8B-hf": 7.94,
    "google/gemma-3-4b-it": 4.3,
}
