"""A model of Qwen2.5-VL-3B's widths with random weights, prompts with pictures, and how a step on them is
set up.
"""

from __future__ import annotations

import io
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from acceptance.runner import Place
from gmpo_vl.config import Config
from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.processing import Processor, encode_prompt
from gmpo_vl.models.tiny import (
    SIZES,
    TinySize,
    save_text_files,
    tiny_qwen2_5_vl_config,
    tiny_tokenizer,
)
from gmpo_vl.tasks.diagrams.data import QUESTIONS
from gmpo_vl.types import Example, Prompt

VOCABULARY = {True: 151_936, False: 2_000}  # on a GPU, on a CPU
LAYERS = (36, 24, 16, 8, 4)  # of the decoder: as many as the GPU holds
CORE_LAYERS = (8, 4)  # written to the disk in seconds
BYTES_A_PARAMETER = 8  # bf16: the weight, its gradient and two moments
ROOM = 10 * 2**30  # bytes for activations, logits and caches
LEAST_ROOM = 6 * 2**30


def size_of_3b(layers: int) -> TinySize:
    """Qwen2.5-VL-3B with `layers` of its 36 layers, and its ViT shortened alike."""
    depth = max(2, 32 * layers // 36)
    return TinySize(2048, layers, 16, 2, 11008, 1280, depth, 16, 3420, True, 0.02, 1e6)


def parameters_of_3b(layers: int) -> int:
    """Without biases and norms, which are few."""
    layer = 2048 * (2 * 2048 + 2 * 256 + 3 * 11008)
    block = 1280 * (4 * 1280 + 3 * 3420)
    merger = 5120 * (5120 + 2048)
    return VOCABULARY[True] * 2048 + layers * layer + size_of_3b(layers).vision_depth * block + merger


def fitting_layers(free: float, core: bool) -> int:
    """The most layers whose training in bf16 a GPU with `free` bytes has room for."""
    for layers in CORE_LAYERS if core else LAYERS:
        room = ROOM if layers > LAYERS[-1] else LEAST_ROOM
        if parameters_of_3b(layers) * BYTES_A_PARAMETER + room <= free:
            return layers
    raise MemoryError(f"{free / 2**30:.1f} GiB of the GPU are free; the smallest model wants 12")


def build_model(place: Place, folder: Path) -> tuple[TinySize, int]:
    """Write a Hugging Face folder with random weights: of 3B's widths on a GPU, tiny on a CPU. Returns its
    size and how many parameters it has. Nothing is downloaded. In bf16: EasyR1 holds what an adapter stands
    on so, and vLLM as the folder has it.
    """
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    size = size_of_3b(fitting_layers(place.free_memory(), place.core)) if place.cuda else SIZES["demo"]
    tokenizer, vocabulary = tiny_tokenizer(), VOCABULARY[place.cuda]
    config = tiny_qwen2_5_vl_config(size, tokenizer)
    config["text_config"] |= {"vocab_size": vocabulary, "max_position_embeddings": 32_768}
    if place.cuda:
        config["text_config"]["rope_scaling"] = {"type": "mrope", "mrope_section": [16, 24, 24]}
    torch.manual_seed(0)
    parsed = Qwen2_5_VLConfig(**deepcopy(config))
    with place.device:
        model: Any = Qwen2_5_VLForConditionalGeneration._from_config(parsed, dtype=torch.bfloat16)
    folder.mkdir(parents=True)
    save_pretrained(model, folder)
    save_text_files(folder, {**config, "torch_dtype": "bfloat16"}, tokenizer)
    name_every_id(folder / "tokenizer.json", vocabulary)
    return size, sum(p.numel() for p in model.parameters())


def name_every_id(tokenizer_file: Path, vocabulary: int) -> None:
    """Give every id up to `vocabulary` a token of its own:

    a random model samples all of them, and vLLM wants their text.
    """
    tokenizer = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    tokens = tokenizer["model"]["vocab"]
    tokens |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}  # else theirs would move
    taken = set(tokens.values())
    tokens |= {f"<{i}>": i for i in range(vocabulary) if i not in taken}
    tokenizer_file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def make_prompts(processor: Processor, count: int, side: int, words: int) -> list[Prompt]:
    """Prompts with a random picture of `side` x `side` pixels and about `words` times ten tokens of text
    each.
    """
    return [encode_prompt(_example(k, side, words), processor) for k in range(count)]


def _example(k: int, side: int, words: int) -> Example:
    drawn = torch.Generator().manual_seed(k)
    pixels = torch.randint(0, 256, (side * side * 3,), generator=drawn, dtype=torch.uint8)
    picture = io.BytesIO()
    Image.frombytes("RGB", (side, side), bytes(pixels.tolist())).save(picture, "PNG")
    text = " ".join(QUESTIONS[(k + i) % len(QUESTIONS)] for i in range(words))
    return Example(str(k), f"<image>{text}", "1", (picture.getvalue(),))


def step_config(folder: Path, dtype: str, checkpointing: bool) -> Config:
    """A step of engine local, as a configuration would set it up."""
    config = Config()
    actor = config.worker.actor
    actor.model.model_path = str(folder)
    actor.model.enable_gradient_checkpointing = checkpointing
    actor.fsdp.torch_dtype = actor.fsdp.mp_param_dtype = dtype
    actor.optim.lr = 1e-5
    return config
