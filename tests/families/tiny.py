"""Tiny random models of the families that run through their own processor, as folders on disk.

    save_family(folder, "gemma3")      config.json, weights, tokenizer, processor files and chat template

Files have the form of the published checkpoints: transformers 4.57 and 5.x both read them where both know the
family. Special tokens, beginnings of sentence and templates differ as they do between the families.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import transformers
from families import configs
from safetensors.torch import load_file, save_file

from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.tiny import random_model, tiny_tokenizer
from gmpo_vl.storage.files import write_json

END, STOP, BOS = "<|endoftext|>", "<|im_end|>", "<bos>"
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


def _glm_family(kind: str, name: str, text: str, vision: str, processor: str, **more: Any) -> Family:
    names = ("image", "video", "begin_of_image", "end_of_image", "begin_of_video", "end_of_video")
    return Family(
        f"{name}ForConditionalGeneration",
        configs.glm(kind, text, vision),
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
        configs.idefics3(kind),
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
        configs.gemma3,
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
        configs.gemma4,
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
        configs.internvl,
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
        configs.llava,
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
        configs.llava_onevision,
        {"image_token": "<image>", "video_token": "<video>"},
        "<image>",
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "size": SQUARE,
            "image_grid_pinpoints": configs.PINS,
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
        configs.mistral3,
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
        configs.minicpmv4_6,
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


def each_family(common: Sequence[str] = COMMON) -> pytest.MarkDecorator:
    """The test for each family; all but the common ones only in `make test-families`."""
    marked = [pytest.param(n, marks=() if n in common else pytest.mark.families) for n in USABLE]
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
