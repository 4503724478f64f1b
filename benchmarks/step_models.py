"""Models and groups that the benchmarks measure: random weights, real shapes."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
import transformers

from gmpo_vl.batching.planning import Shape
from gmpo_vl.models.families.qwen import QwenFamily, mrope_positions
from gmpo_vl.models.shared import use_group_attention
from gmpo_vl.models.vision import batch_vision
from gmpo_vl.types import Example, Group, ImageSettings, Prompt, Response

IMAGE = ImageSettings(14, 2, 2, 56 * 56, 4096 * 28 * 28, 1 / 255, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = 1, 2, 3, 4
FAMILY = QwenFamily(IMAGE, IMAGE_PAD)

# (text, vision) of Qwen2.5-VL's published configs.
_VISION = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "fullatt_block_indexes": [7, 15, 23, 31]}
CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "qwen2_5_vl_3b": (
        {
            "hidden_size": 2048,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "intermediate_size": 11008,
            "vocab_size": 151936,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "tie_word_embeddings": True,
        },
        {**_VISION, "intermediate_size": 3420, "out_hidden_size": 2048},
    ),
    "qwen2_5_vl_7b": (
        {
            "hidden_size": 3584,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "intermediate_size": 18944,
            "vocab_size": 152064,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "tie_word_embeddings": False,
        },
        {**_VISION, "intermediate_size": 3420, "out_hidden_size": 3584},
    ),
    # The 3B model's shares of layers, attention, head and ViT at about 1/140 of its operations per token: one
    # layer, whose MLP makes up in width for what attention has. Narrower than 512, matrix products wait for
    # memory, which they do not in the real model, and long rows look slower than they are.
    "scaled_3b": (
        {
            "hidden_size": 512,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "intermediate_size": 12160,
            "vocab_size": 4224,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "tie_word_embeddings": True,
        },
        {
            "depth": 4,
            "hidden_size": 64,
            "num_heads": 1,
            "intermediate_size": 5400,
            "out_hidden_size": 512,
            "fullatt_block_indexes": [3],
        },
    ),
    # Another shape, for what was fitted to the one above: deeper and wider, a ViT of other proportions,
    # smaller MLPs.
    "other_shape": (
        {
            "hidden_size": 896,
            "num_hidden_layers": 3,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "intermediate_size": 2432,
            "vocab_size": 8192,
            "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
            "tie_word_embeddings": True,
        },
        {
            "depth": 6,
            "hidden_size": 320,
            "num_heads": 4,
            "intermediate_size": 864,
            "out_hidden_size": 896,
            "fullatt_block_indexes": [2, 5],
        },
    ),
}
# Small enough for a test.
CONFIGS["tiny"] = (
    {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "intermediate_size": 256,
        "vocab_size": 512,
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        "tie_word_embeddings": True,
    },
    {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "out_hidden_size": 128,
        "fullatt_block_indexes": [1],
    },
)
# Qwen3.5-4B's shares of delta-nets, attention, MLP, head and ViT, a fifth as wide, with the real heads: three
# layers with a recurrent state, then one with attention.
CONFIGS["scaled_qwen3_5"] = (
    {
        "model_type": "qwen3_5_text",
        "hidden_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "linear_num_key_heads": 3,
        "linear_num_value_heads": 6,
        "intermediate_size": 1856,
        "vocab_size": 6208,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e7,
            "partial_rotary_factor": 0.25,
            "mrope_interleaved": True,
            "mrope_section": [11, 11, 10],
        },
        "tie_word_embeddings": True,
    },
    {
        "model_type": "qwen3_5",
        "depth": 3,
        "hidden_size": 192,
        "num_heads": 3,
        "intermediate_size": 768,
        "patch_size": 14,  # as IMAGE; the published one is 16
        "out_hidden_size": 512,
    },
)
# For one GPU of 16 GB: the 7B model's layers, four of them.
_TEXT_7B, _VISION_7B = CONFIGS["qwen2_5_vl_7b"]
CONFIGS["qwen2_5_vl_7b_4_layers"] = (
    {**_TEXT_7B, "num_hidden_layers": 4},
    {**_VISION_7B, "depth": 4, "fullatt_block_indexes": [3]},
)


def config_of(name: str) -> Any:
    """Of a Qwen2.5-VL, or of a Qwen3.5 where the decoder's model_type says so (transformers 5)."""
    text, vision = CONFIGS[name]
    text = {**text, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "max_position_embeddings": 32768}
    kind = transformers.Qwen2_5_VLConfig
    if text.get("model_type") == "qwen3_5_text":
        kind = transformers.Qwen3_5Config
    else:
        text["rope_theta"] = 1e6
    return kind(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=text["tie_word_embeddings"],
        image_token_id=IMAGE_PAD,
        video_token_id=VIDEO_PAD,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )


def random_model(name: str, device: torch.device, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    with device:
        model = transformers.AutoModelForImageTextToText.from_config(
            config_of(name), attn_implementation="sdpa", dtype=dtype
        )
    use_group_attention(model)
    batch_vision(model)
    return model.train()


def random_group(
    name: str, prompt: int, responses: list[int], device: torch.device, seed: int = 0
) -> tuple[Group, Shape]:
    """One picture that takes about seven tenths of the prompt, text around it, and responses of the given
    lengths.
    """
    draw = torch.Generator().manual_seed(seed)
    vocabulary = CONFIGS[name][0]["vocab_size"]
    side = int((0.7 * prompt) ** 0.5)
    picture = torch.randint(0, 256, (28 * side, 28 * side, 3), generator=draw, dtype=torch.uint8)
    grid_13 = torch.tensor([IMAGE.grid(*picture.shape[:2])])
    text = torch.randint(5, vocabulary, (prompt - side * side - 2,), generator=draw)
    image = torch.tensor([VISION_START, *[IMAGE_PAD] * (side * side), VISION_END])
    ids_P = torch.cat([text[:20], image, text[20:]])
    positions_3P = mrope_positions(ids_P, grid_13, IMAGE_PAD, IMAGE.merge_size)
    made = Prompt(Example(str(seed), "", ""), "", ids_P, (picture.to(device),), grid_13, positions_3P)
    answers = [torch.randint(5, vocabulary, (length,), generator=draw) for length in responses]
    group = Group("0", made, [Response(ids_T, torch.zeros(len(ids_T)), "", True, 0) for ids_T in answers])
    return group, Shape(prompt, tuple(responses), tuple(map(tuple, grid_13.tolist())))


def versions(device: torch.device) -> dict[str, Any]:
    """What was measured on what."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True)
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux: the platform's own name for it
    return {
        "commit": commit.stdout.strip(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "hardware": torch.cuda.get_device_name() if device.type == "cuda" else cpu,
        "threads": torch.get_num_threads(),
    }
