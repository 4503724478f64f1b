"""Tiny random models of the families that run through their own processor, as folders on disk.

    save_family(folder, "gemma3")      config.json, weights, tokenizer, processor files and chat template

Files have the form of the published checkpoints: transformers 4.57 and 5.x both read them where both know the
family. Special tokens, beginnings of sentence and templates differ as they do between the families.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file

from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.tiny import random_model, tiny_tokenizer
from gmpo_vl.storage.files import write_json

END, STOP, BOS = "<|endoftext|>", "<|im_end|>", "<bos>"
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
SQUARE = {"height": 56, "width": 56}

# ChatML whose content may be a string, and ChatML that knows lists of parts only, as most models' templates.
EITHER = """\
{%- for m in messages -%}<|im_start|>{{ m.role }}
{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}\
{% if p.type == 'image' %}IMAGE{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
PARTS = """\
{%- for m in messages -%}{{ m.role | upper }}: \
{% for p in m.content | selectattr('type', 'equalto', 'image') %}IMAGE
{% endfor %}{% for p in m.content | selectattr('type', 'equalto', 'text') %}{{ p.text }}{% endfor %} \
{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"""


@dataclass(frozen=True)
class Family:
    """A family's class, its special tokens by the names that its tokenizer has for them, and its files.

    config: makes config.json of a function from token to id. image: what the template writes for a picture.
    bos: "template" writes it, the "tokenizer" adds it, or there is "none".
    """

    architecture: str
    config: Callable[[Callable[[str], int]], dict[str, Any]]
    tokens: dict[str, str]
    image: str
    preprocessor: dict[str, Any]
    processor: dict[str, Any]
    template: str = EITHER
    bos: str = "none"
    more_tokens: tuple[str, ...] = ()
    also_in_4_57: bool = True
    torchvision: int | None = None  # the major version of transformers whose processor cannot do without it


def decoder(kind: str, **values: Any) -> dict[str, Any]:
    return {**TEXT, "model_type": kind, **values}


def _gemma3(id_of: Callable[[str], int]) -> dict[str, Any]:
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


def _gemma4(id_of: Callable[[str], int]) -> dict[str, Any]:
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


def _internvl(id_of: Callable[[str], int]) -> dict[str, Any]:
    vision = {**VISION, "model_type": "internvl_vision", "image_size": [56, 56], "patch_size": [14, 14]}
    return {
        "model_type": "internvl",
        "text_config": decoder("qwen2"),
        "vision_config": vision,
        "image_token_id": id_of("<IMG_CONTEXT>"),
        "image_seq_length": 4,
    }


def _llava(id_of: Callable[[str], int]) -> dict[str, Any]:
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


def _llava_onevision(id_of: Callable[[str], int]) -> dict[str, Any]:
    return {
        "model_type": "llava_onevision",
        "text_config": decoder("qwen2"),
        "vision_config": SIGLIP,
        "image_token_index": id_of("<image>"),
        "video_token_index": id_of("<video>"),
        "image_grid_pinpoints": PINS,
    }


def _idefics3(kind: str) -> Callable[[Callable[[str], int]], dict[str, Any]]:
    def config(id_of: Callable[[str], int]) -> dict[str, Any]:
        return {
            "model_type": kind,
            "text_config": decoder("llama"),
            "vision_config": {**VISION, "model_type": f"{kind}_vision", "image_size": 56, "patch_size": 14},
            "image_token_id": id_of("<image>"),
            "scale_factor": 2,
            "pad_token_id": id_of(END),
            "tie_word_embeddings": False,
        }

    return config


def _glm(kind: str, text: str, vision: str) -> Callable[[Callable[[str], int]], dict[str, Any]]:
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


def _mistral3(id_of: Callable[[str], int]) -> dict[str, Any]:
    vision = {**VISION, "model_type": "pixtral", "head_dim": 16, "image_size": 112, "patch_size": 14}
    return {
        "model_type": "mistral3",
        "text_config": decoder("mistral", sliding_window=None),
        "vision_config": {**vision, "rope_theta": 10000.0},
        "image_token_index": id_of("[IMG]"),
        "spatial_merge_size": 2,
        "vision_feature_layer": -1,
    }


def _minicpmv4_6(id_of: Callable[[str], int]) -> dict[str, Any]:
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


def _glm_family(kind: str, name: str, text: str, vision: str, processor: str, **more: Any) -> Family:
    names = ("image", "video", "begin_of_image", "end_of_image", "begin_of_video", "end_of_video")
    return Family(
        f"{name}ForConditionalGeneration",
        _glm(kind, text, vision),
        {"image_token": "<|image|>", "video_token": "<|video|>"},
        "<|begin_of_image|><|image|><|end_of_image|>",
        {
            "image_processor_type": f"{processor}ImageProcessor",
            "size": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112 * 2},
        },
        {"processor_class": f"{processor}Processor"},
        more_tokens=tuple(f"<|{name}|>" for name in names[2:]),
        **more,
    )


def _idefics_family(kind: str, name: str, **more: Any) -> Family:
    grid = tuple(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7))
    return Family(
        f"{name}ForConditionalGeneration",
        _idefics3(kind),
        {
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
        "<image>",
        {
            "image_processor_type": f"{name}ImageProcessor",
            "size": {"longest_edge": 112},
            "max_image_size": {"longest_edge": 56},
        },
        {"processor_class": f"{name}Processor", "image_seq_len": 4},
        template=PARTS,
        more_tokens=grid,
        **more,
    )


FAMILIES = {
    "gemma3": Family(
        "Gemma3ForConditionalGeneration",
        _gemma3,
        {
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        "<start_of_image>",
        {"image_processor_type": "Gemma3ImageProcessor", "size": SQUARE},
        {"processor_class": "Gemma3Processor", "image_seq_length": 4},
        bos="template",
    ),
    "gemma4": Family(
        "Gemma4ForConditionalGeneration",
        _gemma4,
        {
            "boi_token": "<|image>",
            "eoi_token": "<image|>",
            "image_token": "<|image|>",
            "audio_token": "<|audio|>",
            "boa_token": "<|audio>",
            "eoa_token": "<audio|>",
        },
        "<|image|>",
        {"image_processor_type": "Gemma4ImageProcessor", "max_soft_tokens": 70},
        {"processor_class": "Gemma4Processor"},
        bos="template",
        more_tokens=("<|video|>",),
        also_in_4_57=False,
    ),
    "internvl": Family(
        "InternVLForConditionalGeneration",
        _internvl,
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        "<IMG_CONTEXT>\n",
        {
            "image_processor_type": "GotOcr2ImageProcessor",
            "size": SQUARE,
            "crop_to_patches": True,
            "max_patches": 4,
        },
        {"processor_class": "InternVLProcessor", "image_seq_length": 4},
    ),
    "llava": Family(
        "LlavaForConditionalGeneration",
        _llava,
        {"image_token": "<image>"},
        "<image>",
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 56}, "crop_size": SQUARE},
        {
            "processor_class": "LlavaProcessor",
            "patch_size": 14,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        template=PARTS,
        bos="tokenizer",
    ),
    "llava_onevision": Family(
        "LlavaOnevisionForConditionalGeneration",
        _llava_onevision,
        {"image_token": "<image>", "video_token": "<video>"},
        "<image>",
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "size": SQUARE,
            "image_grid_pinpoints": PINS,
        },
        {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": 16,
            "vision_feature_select_strategy": "full",
        },
        template=PARTS,
    ),
    "smolvlm": _idefics_family("smolvlm", "SmolVLM", torchvision=4),
    "idefics3": _idefics_family("idefics3", "Idefics3", bos="tokenizer"),
    "glm4v": _glm_family("glm4v", "Glm4v", "glm4v_text", "glm4v_vision", "Glm4v"),
    "glm4v_moe": _glm_family("glm4v_moe", "Glm4vMoe", "glm4v_moe_text", "glm4v_moe_vision", "Glm4v"),
    "glm46v": _glm_family("glm46v", "Glm46V", "glm4v_text", "glm4v_vision", "Glm46V", also_in_4_57=False),
    "mistral3": Family(
        "Mistral3ForConditionalGeneration",
        _mistral3,
        {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"},
        "[IMG]",
        {
            "image_processor_type": "PixtralImageProcessor",
            "size": {"longest_edge": 112},
            "patch_size": {"height": 14, "width": 14},
        },
        {"processor_class": "PixtralProcessor", "patch_size": 14, "spatial_merge_size": 2},
        bos="template",
        torchvision=5,
    ),
    "minicpmv4_6": Family(
        "MiniCPMV4_6ForConditionalGeneration",
        _minicpmv4_6,
        {
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "image_start_token": "<image>",
            "image_end_token": "</image>",
            "slice_start_token": "<slice>",
            "slice_end_token": "</slice>",
            "image_id_start_token": "<image_id>",
            "image_id_end_token": "</image_id>",
        },
        "<|image_pad|>",
        {"image_processor_type": "MiniCPMV4_6ImageProcessor", "scale_resolution": 112},
        {"processor_class": "MiniCPMV4_6Processor"},
        also_in_4_57=False,
    ),
}

_VERSION = int(transformers.__version__.partition(".")[0])
_HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None
# What the transformers that runs here knows, and those of them whose processors load here.
KNOWN = [name for name, family in FAMILIES.items() if _VERSION >= 5 or family.also_in_4_57]
USABLE = [name for name in KNOWN if FAMILIES[name].torchvision != _VERSION or _HAS_TORCHVISION]
# The ordinary suite runs these; `make test-families` all.
COMMON = ("gemma3", "llava")


def each_family(names: Iterable[str] = USABLE) -> pytest.MarkDecorator:
    """The test for each family; all but the common ones only in `make test-families`."""
    marked = [pytest.param(n, marks=() if n in COMMON else pytest.mark.families) for n in names]
    return pytest.mark.parametrize("name", marked)


def save_family(folder: str | Path, name: str, seed: int = 0) -> Path:
    """Write a tiny random model of `name` (a key of FAMILIES); returns the folder."""
    family, folder = FAMILIES[name], Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(family)
    config = family.config(tokenizer.token_to_id)
    config["architectures"] = [family.architecture]
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"]
    vocabulary = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": tokenizer.token_to_id(END)}
    vocabulary |= {"eos_token_id": tokenizer.token_to_id(STOP)}
    vocabulary |= {"bos_token_id": tokenizer.token_to_id(BOS if family.bos != "none" else END)}
    config["text_config"].update(vocabulary)
    if "hidden_size_per_layer_input" in config["text_config"]:
        config["text_config"]["vocab_size_per_layer_input"] = vocabulary["vocab_size"]
    model = random_model(config, 0.1, seed)
    save_pretrained(model, folder)
    if config["vision_config"].get("model_type") in ("clip_vision_model", "siglip_vision_model"):
        _use_published_names(folder)
    write_json(folder / "generation_config.json", {k: v for k, v in vocabulary.items() if k != "vocab_size"})
    tokenizer.save(str(folder / "tokenizer.json"))
    _save_processor(folder, family)
    return folder


def _use_published_names(folder: Path) -> None:
    """A model that 5.x made from nothing has names of CLIP's and SigLIP's weights that no checkpoint has; one
    that it loaded keeps the names of its files."""
    path, inner = folder / "model.safetensors", "vision_tower.vision_model."
    weights = load_file(path)
    names = {name: name.replace("vision_tower.", inner) for name in weights if inner not in name}
    save_file({names.get(name, name): value for name, value in weights.items()}, path, {"format": "pt"})


def _tokenizer(family: Family) -> Any:
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    bos = (BOS,) if family.bos != "none" else ()
    added = [*bos, *family.tokens.values(), *family.more_tokens]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in added])
    if bos:  # both kinds of tokenizer add it to any text: only the template that writes it is in the way
        tokenizer.post_processor = TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        )
    return tokenizer


def _save_processor(folder: Path, family: Family) -> None:
    template = family.template.replace("IMAGE", family.image)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": STOP,
        "pad_token": END,
        "extra_special_tokens": family.tokens,
        "additional_special_tokens": list(family.more_tokens),
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
    }
    if family.bos != "none":
        settings["bos_token"] = BOS
    if family.bos == "template":
        template = "{{ bos_token }}" + template
    kind = {"processor_class": family.processor["processor_class"]}
    write_json(folder / "tokenizer_config.json", {**settings, **family.tokens})
    write_json(folder / "preprocessor_config.json", {**family.preprocessor, **kind})
    write_json(folder / "processor_config.json", family.processor)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
