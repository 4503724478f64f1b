"""Differences between transformers 4.57 and 5.x, all of them."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

# 5.10 gives `transformers.AutoImageProcessor` only where torchvision is installed.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from gmpo_vl.storage.files import naming, read_object, write_json

TRANSFORMERS_5 = int(transformers.__version__.split(".")[0]) >= 5

# 4.57 asks the `text_config` of these configurations for values, and vLLM 0.11 finds the model's class there.
_ASKS_TEXT_CONFIG = ("qwen2_vl", "qwen2_5_vl")
# 5.x moved these values. 4.57 silently takes its own defaults for values that it does not find.
_MOVED = ("rope_theta", "rope_scaling", "partial_rotary_factor", "num_experts", "tie_word_embeddings")
_MOVED += ("rope_local_base_freq",)
# Their layers with windows have a RoPE of their own, of which 4.57 asks for the base alone.
_TWO_ROPES = ("gemma3_text", "gemma3n_text")

# The JSON files that transformers reads for each part of a model. It does not notice damage in all of them.
_MAPS = ("special_tokens_map.json", "added_tokens.json", "vocab.json")
PARTS = {
    "configuration": ("config.json",),
    "tokenizer": ("config.json", "tokenizer.json", "tokenizer_config.json", *_MAPS),
    "image processor": ("config.json", "preprocessor_config.json", "processor_config.json"),
    "processor": ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"),
    "model": ("config.json", "generation_config.json", "model.safetensors.index.json"),
}
DOWNLOAD = "copy or download the model again"


def save_pretrained(model: Any, folder: Path) -> None:
    """Write a model, or its adapter, so that every supported version of transformers and vLLM reads it."""
    settings: dict[str, Any] = {}
    if TRANSFORMERS_5 and isinstance(model, PreTrainedModel) and model.config.model_type == "qwen3_vl_moe":
        # 5.x holds these experts as (experts, out, in). It reads the published (experts, in, out) only.
        weights = {
            name: value.transpose(1, 2) if ".mlp.experts." in name else value
            for name, value in model.state_dict().items()
        }
        settings = {"state_dict": weights, "save_original_format": False}
    with naming(folder / "*.safetensors"):
        model.save_pretrained(folder, safe_serialization=True, **settings)
    complete_config(folder)


def complete_config(folder: Path) -> None:
    """Add the names that 4.57 looks for to the config.json that 5.x wrote, if the folder has one."""
    path = folder / "config.json"
    if path.exists():
        write_json(path, with_old_names(json.loads(path.read_text(encoding="utf-8"))))


def with_old_names(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json of 5.x, with every value also where 4.57 looks for it. Values that are there already
    stay, and 5.x reads the result as before."""
    whole = _with_old_names(config)
    if isinstance(text := config.get("text_config"), dict):
        whole["text_config"] = text = _with_old_names(text)
        if config.get("tie_word_embeddings"):  # 4.57 asks only the decoder for it
            text["tie_word_embeddings"] = True
        if config.get("model_type") in _ASKS_TEXT_CONFIG and config.get("architectures"):
            text["architectures"] = text.get("architectures") or config["architectures"]
        if "rope_scaling" in text:  # 4.57 repeats it at the top of a flat file; 5.x fails on that
            whole.pop("rope_scaling", None)
    return whole


def _with_old_names(config: dict[str, Any]) -> dict[str, Any]:
    old: dict[str, Any] = {}
    rope = config.get("rope_parameters") or {}
    two, local = config.get("model_type") in _TWO_ROPES, {}
    if two:
        local, rope = rope.get("sliding_attention") or {}, rope.get("full_attention") or {}
    if "rope_theta" in rope:  # it is elsewhere where each kind of layer has its own
        scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "type")}
        old = {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}
        if "partial_rotary_factor" in scaling:
            old["partial_rotary_factor"] = scaling.pop("partial_rotary_factor")
        if scaling == {"rope_type": "default"}:
            old["rope_scaling"] = None
    if two and "rope_theta" in local:
        old["rope_local_base_freq"] = local["rope_theta"]
    if "num_local_experts" in config:
        old["num_experts"] = config["num_local_experts"]
    whole = old | config
    # 5.x writes `type` beside `rope_type`, but not again for a model that was loaded from such a file.
    if "rope_type" in rope and not two:
        whole["rope_parameters"] = {key: value for key, value in rope.items() if key != "type"}
    return whole


def check_config(folder: Path) -> None:
    """Raise ValueError where this version of transformers would miss values that 5.x wrote."""
    if TRANSFORMERS_5:
        return
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    whole, text = with_old_names(config), config.get("text_config") or {}
    missed = [key for key in _MOVED if key in whole and key not in config]
    missed += [key for key in _MOVED if whole.get("text_config", {}).get(key) != text.get(key)]
    if missed:
        raise ValueError(
            f"{folder / 'config.json'} was written by transformers 5; transformers "
            f"{transformers.__version__} would not find {', '.join(missed)} in it and take its own defaults. "
            "This command adds them: "
            'python -c "from pathlib import Path; from gmpo_vl.models.compat import complete_config; '
            f"complete_config(Path('{folder}'))\""
        )


@contextmanager
def no_code_of(folder: str | Path, part: str) -> Iterator[dict[str, Any]]:
    """Gives the argument of `from_pretrained` that neither runs code of a model's folder nor asks about it.

    Raises ValueError where the part (a key of `PARTS`) needs such code, where one of its JSON files is
    damaged, and where transformers can make nothing of its values.
    """
    files = [path for name in PARTS[part] if (path := Path(folder) / name).exists()]
    for path in files:
        read_object(path, DOWNLOAD)
    try:
        yield {"trust_remote_code": False}
    except ValueError as error:
        if "trust_remote_code" not in str(error) and "does not recognize this architecture" not in str(error):
            raise
        raise ValueError(
            f"{folder}: transformers {transformers.__version__} has no class for its {part}, and code from a "
            "model's folder is never run here; take a model that transformers itself knows, or a newer "
            "transformers"
        ) from error
    except ImportError as error:
        raise ValueError(
            f"{folder}: its {part} needs a package that is not installed: {_first_cause(error)}"
        ) from error
    except (TypeError, AttributeError, LookupError, StrictDataclassError) as error:
        raise ValueError(
            f"{folder}: transformers {transformers.__version__} can make no {part} of "
            f"{', '.join(path.name for path in files)}: {' '.join(str(error).split())[:300]} "
            f"({type(error).__name__}). To go on, {DOWNLOAD}"
        ) from error


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).partition(". ")[0]


def load_image_processor(folder: Path) -> Any:
    """The image processor of a model folder, on Pillow, also where torchvision is installed. ValueError where
    its file is missing."""
    whole = read_object(folder / "processor_config.json", DOWNLOAD) or {}
    if not (folder / "preprocessor_config.json").exists() and not (
        TRANSFORMERS_5 and "image_processor" in whole  # 4.57 does not look there
    ):
        written = ": transformers 5 wrote processor_config.json, which 4.57 does not read"
        raise ValueError(
            f"{folder}: preprocessor_config.json is missing, which says how pictures are prepared"
            f"{written if 'image_processor' in whole else ''}. To go on, {DOWNLOAD}"
        )
    backend: dict[str, Any] = {"backend": "pil"} if TRANSFORMERS_5 else {"use_fast": False}
    with no_code_of(folder, "image processor") as no_code:
        return AutoImageProcessor.from_pretrained(folder, **backend, **no_code)


class Unused:
    """In the place of a part that reads videos or sound: it has no settings, and is never called."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):  # whoever copies or prints objects asks for these
            raise AttributeError(name)


_OF_ANY = ("self", "chat_template", "args", "kwargs")  # what every processor takes
# The parts of a processor that nothing here calls. They need torchvision or audio packages to load.
_UNUSED = ("video_processor", "feature_extractor", "audio_processor", "audio_tokenizer")


def load_own_processor(folder: Path, config: Any, tokenizer: Any) -> Any:
    """transformers' processor of a model folder around this tokenizer, on Pillow, for text and pictures only.

    Raises ValueError that names what is missing: a class, a package or a value in a file.
    """
    parts = {"tokenizer": tokenizer, "image_processor": load_image_processor(folder)}
    parts |= {name: Unused() for name in _UNUSED}
    with no_code_of(folder, "processor"):
        kind = _processor_class(folder, config)
        takes = inspect.signature(kind.__init__).parameters
        names = kind.get_attributes() if TRANSFORMERS_5 else kind.attributes
        missing = [name for name in names if name not in parts]
        if missing:
            raise ValueError(f"{folder}: its {kind.__name__} needs {missing[0]}, which is not supported here")
        own_settings = [
            name for name in takes if name not in (*parts, *_OF_ANY) and not name.endswith("_token")
        ]
        if own_settings and not (folder / "processor_config.json").exists():
            raise ValueError(
                f"{folder}: processor_config.json is missing, which gives its {kind.__name__} "
                f"{', '.join(own_settings)}. To go on, {DOWNLOAD}"
            )
        settings, _ = kind.get_processor_dict(folder)
        own = {name: value for name, value in settings.items() if name in takes and name not in parts}
        return kind(**{name: parts[name] for name in names}, **own)


def _processor_class(folder: Path, config: Any) -> Any:
    """The class that `AutoProcessor` would take; it does not mind unused parts."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES, processor_class_from_name

    files = [read_object(folder / name, DOWNLOAD) or {} for name in PARTS["processor"]]
    named = [settings["processor_class"] for settings in files if settings.get("processor_class")]
    name = named[0] if named else PROCESSOR_MAPPING_NAMES.get(config.model_type)
    known = processor_class_from_name(name) if name else None
    if known is None:
        raise ValueError(
            f"{folder}: transformers {transformers.__version__} has no processor {name or 'at all'} for "
            f"models of the kind {config.model_type!r}"
        )
    if name == "SmolVLMProcessor":
        module: Any = importlib.import_module(known.__module__)
        module.num2words = module.num2words or Unused()  # it only says how many frames a video has

    def check(self: Any, name: str, part: Any) -> Any:
        return None if isinstance(part, Unused) else known.check_argument_for_proper_class(self, name, part)

    return type(known.__name__, (known,), {"check_argument_for_proper_class": check})


def misshapen(found: Any) -> list[str]:
    """Names of weights in other shapes than the model's, in an account of a loading. 5.x adds the shapes."""
    return [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]


def picture_placeholder(processor: Any) -> str | None:
    """What a chat template writes for a picture. 4.57's Gemma 3 has another token as its image_token."""
    if not TRANSFORMERS_5 and type(processor).__name__ == "Gemma3Processor":
        return processor.boi_token
    return getattr(processor, "image_token", None)


def image_features(model: PreTrainedModel, patches: torch.Tensor, grid_thw_N3: torch.Tensor) -> torch.Tensor:
    """Merged features (1 + D, image tokens, hidden) of all images, in order; D for DeepStack (Qwen3-VL).

    4.57's ViT returns a tensor, or a pair with DeepStack; 5.x's an output object. It casts patches itself.
    """
    out = model.model.visual(patches, grid_thw=grid_thw_N3)
    if isinstance(out, torch.Tensor):
        return out[None]
    if isinstance(out, tuple):
        merged, deeper = out
    else:
        merged, deeper = out.pooler_output, getattr(out, "deepstack_features", ())
    return torch.stack([merged, *deeper])


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Qwen2-VL's target size (height, width) in pixels; ValueError for aspect ratios over 200."""
    if TRANSFORMERS_5:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as resize
    else:
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as resize
    return resize(height, width, factor, min_pixels, max_pixels)


def own_attention(model_type: str) -> bool:
    """Does this decoder bypass transformers' interfaces? Before 5.0 Qwen2-MoE does with its attention, and
    Qwen3-Next with its recurrent layers, which take no state to start from."""
    return model_type in ("qwen2_moe", "qwen3_next") and not TRANSFORMERS_5


def enable_gradient_checkpointing(model: PreTrainedModel) -> None:
    """Recompute every layer in the backward pass. 5.23 renamed the method."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def router_logits(output: Any) -> torch.Tensor:
    """Logits (tokens, experts) of a router's output: 4.57's is a linear layer, 5.x's also chooses experts."""
    return output[0] if isinstance(output, tuple) else output
