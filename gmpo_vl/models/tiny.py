"""Tiny models as ordinary Hugging Face folders: standard classes, a mini BPE, no hub, no torchvision.

    save_tiny(folder)                  random Qwen2.5-VL of 0.3 M parameters, for tests
    save_tiny(folder, size="demo")     random Qwen2.5-VL of 0.85 M parameters, where the warm-up starts
    packaged_tiny()                    the demo model after its supervised warm-up (recipes/warm_up_tiny.py)

Every supported transformers version writes the same bytes. The configuration files have the form of the
published Qwen2.5-VL checkpoints (`rope_theta`, `rope_scaling`), which transformers 4.57 and 5.x, EasyR1 and
vLLM all read.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from gmpo_vl.storage.files import write_json
from gmpo_vl.tasks.diagrams.data import QUESTIONS

_END, _STOP = "<|endoftext|>", "<|im_end|>"
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
SPECIAL_TOKENS = (_END, "<|im_start|>", _STOP, *_VISION)

# Words, digits one by one, punctuation, blanks: the same boundaries as Qwen2's tokenizer.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# ChatML without a default system line; a picture is the three tokens it is in Qwen2.5-VL's template.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>
{%- else %}{{ part.text }}{% endif -%}
{%- endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""

# The mini BPE is trained on these words of the chat format and of answers, and on the diagrams' questions.
_TOKENIZER_TEXT = (
    "system\nuser\nassistant\n",
    "42+35=77, 180-77=103. \\boxed{103}",
    "3*14=30+12=42. \\boxed{42}",
    "2*(14+3)=34. \\boxed{34}",
    "x=7\\sqrt{3}. \\boxed{7\\sqrt{3}}",
    "Read the numbers.",
    "<think>The angles of a triangle add up to 180 degrees.</think> The answer is \\boxed{\\frac{3}{4}}.",
)


@dataclass(frozen=True)
class TinySize:
    """Widths and depths. The head size is 32 everywhere: vLLM's CPU attention refuses 16."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vision_hidden: int
    vision_depth: int
    vision_heads: int
    vision_intermediate: int
    tied: bool
    initializer_range: float
    rope_theta: float


SIZES = {
    # A large initializer_range: random log-probs differ between tokens, and gradients are not tiny.
    "test": TinySize(64, 2, 2, 1, 128, 64, 2, 2, 128, tied=False, initializer_range=0.1, rope_theta=10000.0),
    "demo": TinySize(96, 3, 3, 1, 192, 96, 3, 3, 192, tied=True, initializer_range=0.02, rope_theta=10.0),
    # Its pictures have 16 cells of one merged patch, so a narrow ViT sees enough.
    "gridworld": TinySize(
        96, 3, 3, 1, 192, 64, 2, 2, 128, tied=True, initializer_range=0.02, rope_theta=10.0
    ),
}


def packaged_tiny() -> Path:
    """The folder of the packaged demo model: 0.85 M parameters, warmed up on the built-in diagrams."""
    return Path(__file__).parent / "pretrained"


def packaged_gridworld() -> Path:
    """The folder of the packaged player of the grid world: 0.5 M parameters, warmed up by an expert."""
    return Path(__file__).parent / "pretrained_gridworld"


def tiny_tokenizer(texts: Iterable[str] = (*QUESTIONS, *_TOKENIZER_TEXT)) -> Any:
    """A `tokenizers.Tokenizer`: byte-level BPE of a few hundred tokens, one per digit, special tokens last.

    texts: every word of them becomes a token.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from tokenizers.trainers import BpeTrainer

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()  # as Qwen2's; transformers 5 sets it in any case
    words = Split(Regex(_PIECES), "isolated")
    tokenizer.pre_tokenizer = Sequence([words, ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    letters = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=1024, min_frequency=1, show_progress=False, initial_alphabet=letters)
    tokenizer.train_from_iterator(list(texts), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    return tokenizer


def tiny_qwen2_5_vl_config(size: TinySize, tokenizer: Any) -> dict[str, Any]:
    """`config.json` of a tiny Qwen2.5-VL. Its mRoPE sections sum to half the head size."""
    token_id = tokenizer.token_to_id
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
        "tie_word_embeddings": size.tied,
        "initializer_range": size.initializer_range,
        "text_config": {
            **text_config(size, tokenizer),
            "model_type": "qwen2_5_vl_text",
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],  # where 4.57 and vLLM 0.11 look
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        },
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "depth": size.vision_depth,
            "hidden_size": size.vision_hidden,
            "hidden_act": "silu",
            "intermediate_size": size.vision_intermediate,
            "num_heads": size.vision_heads,
            "in_channels": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "fullatt_block_indexes": [size.vision_depth - 1],
            "out_hidden_size": size.hidden,
            "initializer_range": size.initializer_range,
        },
    }


def text_config(size: TinySize, tokenizer: Any) -> dict[str, Any]:
    """The decoder's part of `config.json`, without its model_type."""
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "initializer_range": size.initializer_range,
        "rms_norm_eps": 1e-6,
        "rope_theta": size.rope_theta,
        "tie_word_embeddings": size.tied,
        "use_sliding_window": False,
        "bos_token_id": tokenizer.token_to_id(_END),
        "eos_token_id": tokenizer.token_to_id(_STOP),
        "pad_token_id": tokenizer.token_to_id(_END),
    }


def save_tiny(
    folder: str | Path, size: Literal["test", "demo"] = "test", seed: int = 0, tied: bool | None = None
) -> Path:
    """Write a Qwen2.5-VL with random fp32 weights as a Hugging Face folder; returns the folder. About 0.1 s.

    tied: does the head share the embedding's weights? None: as the size has it (test: no, demo: yes).
    """
    chosen = SIZES[size] if tied is None else replace(SIZES[size], tied=tied)
    tokenizer = tiny_tokenizer()
    config = tiny_qwen2_5_vl_config(chosen, tokenizer)
    return save_folder(folder, random_model(config, chosen.initializer_range, seed), config, tokenizer)


def random_model(config: dict[str, Any], scale: float, seed: int) -> Any:
    """The model of a `config.json`, of the class that it names, with random fp32 weights."""
    import transformers

    model_class = getattr(transformers, config["architectures"][0])
    with torch.random.fork_rng(devices=[]):  # building a model draws random numbers: not the caller's
        model = model_class(model_class.config_class(**deepcopy(config)))
    randomize(model, scale, seed)
    return model


def randomize(model: Any, scale: float, seed: int) -> None:
    """Normal weights and biases, norms at 1, drawn in the order of names: the same in every version."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim == 1 and name.endswith("weight"):  # RMSNorm
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, scale, generator=generator)


def save_folder(
    folder: str | Path,
    model: Any,
    config: dict[str, Any],
    tokenizer: Any,
    image_processor: dict[str, Any] | None = None,
) -> Path:
    """Weights by transformers, every text file by us."""
    from gmpo_vl.models.compat import save_pretrained

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_pretrained(model, folder)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    save_text_files(folder, {**config, "torch_dtype": dtype}, tokenizer, image_processor)
    return folder


def save_text_files(
    folder: Path, config: dict[str, Any], tokenizer: Any, image_processor: dict[str, Any] | None = None
) -> None:
    """Everything in a model's folder but the weights. Image-processor files only where the model has a ViT.

    image_processor: its configuration, Qwen2.5-VL's by default.
    """
    stop, end = tokenizer.token_to_id(_STOP), tokenizer.token_to_id(_END)
    generation = {"bos_token_id": end, "eos_token_id": [stop, end], "pad_token_id": end, "do_sample": True}
    tokenizer_config = {
        "tokenizer_class": "Qwen2TokenizerFast",
        "eos_token": _STOP,
        "pad_token": _END,
        "additional_special_tokens": [t for t in SPECIAL_TOKENS if t not in (_STOP, _END)],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
    }
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", generation)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    if "vision_config" in config:
        image_processor = image_processor or IMAGE_PROCESSOR
        # Where torchvision is installed, AutoProcessor and vLLM ask for the video half as well.
        video = {"video_processor_type": "Qwen2VLVideoProcessor"}
        kind = image_processor["processor_class"]
        processor = {"processor_class": kind, "image_processor": image_processor, "video_processor": video}
        write_json(folder / "preprocessor_config.json", image_processor)
        write_json(folder / "processor_config.json", processor)
        write_json(folder / "video_preprocessor_config.json", video)


# As in the published Qwen2.5-VL checkpoints, but with a lower max_pixels.
IMAGE_PROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "min_pixels": 56 * 56,
    "max_pixels": 448 * 448,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
