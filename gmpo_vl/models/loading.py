"""Models from a folder or the hub, in standard transformers classes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
)

from gmpo_vl.models.adapters import merged
from gmpo_vl.models.compat import DOWNLOAD, check_config, misshapen, no_code_of
from gmpo_vl.models.noise import config_without_noise, is_noise
from gmpo_vl.models.shared import use_group_attention
from gmpo_vl.models.vision import batch_vision
from gmpo_vl.storage.files import read_object
from gmpo_vl.storage.manifest import check_model_files
from gmpo_vl.storage.places import PACKAGED, hub_obstacle, installed

# Ends of the names of files with weights.
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".safetensors.index.json", ".bin.index.json")


_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")


class NoModelFolder(FileNotFoundError):
    """Neither a model's folder nor a hub id. reason: why not, without the configuration's key."""

    def __init__(self, reason: str, key: str = "worker.actor.model.model_path: "):
        super().__init__(f"{key}{reason}")
        self.reason = reason


def model_folder(path: str) -> Path:
    """A local folder with the model's files; a hub id `owner/name` is downloaded once.

    `package:gmpo_vl/models/pretrained` is the tiny model of the installed package.

    Raises NoModelFolder that says what was looked for when neither can be had.
    """
    named, path = path, installed(path)
    if named.startswith("package:") and not Path(path).is_dir():
        raise NoModelFolder(
            f"{named}: the package has no such folder; its model is {PACKAGED}models/pretrained"
        )
    if Path(path).is_dir():
        if (Path(path) / "model_index.json").exists():
            reason = "is a diffusion pipeline: it makes pictures and writes no text"
            raise NoModelFolder(f"{path} {reason}", key="")
        if not (Path(path) / "config.json").exists():
            inside = ("", "step_*/", "checkpoints/step_*/")  # of a checkpoint, of their folder, of a run
            found = [file for at in inside for file in Path(path).glob(f"{at}huggingface/config.json")]
            models = ", ".join(sorted(str(file.parent) for file in found))
            hint = f"; a checkpoint's model is {models}" if models else ""
            raise NoModelFolder(f"{path} has no config.json: not a Hugging Face model folder{hint}", key="")
        return Path(path)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) or Path(path).exists():
        what = "is a file" if Path(path).exists() else "does not exist"
        raise NoModelFolder(f"{path} {what}; name a model's folder or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    obstacle, unwanted = hub_obstacle(path, "model"), ["*.pth", "*.bin", "*.gguf"]
    try:
        return Path(snapshot_download(path, ignore_patterns=unwanted, local_files_only=obstacle is not None))
    except (HFValidationError, OSError) as error:
        reason = str(error).partition("\n")[0]
        said = f"could not give it ({reason})"
        if obstacle is not None:
            cure = "download it elsewhere and name its folder, or let HF_HOME name a cache with it"
            said = f"cannot be reached ({obstacle}): {cure}"
        raise NoModelFolder(f"no folder {path!r} here, and the hub {said}") from error


def model_config(folder: str | Path, **overrides: Any) -> Any:
    """The configuration in a model's folder, with the values of `worker.actor.model.override_config`.

    What is random in training alone, such as dropout, is off (noise.py).

    Raises ValueError for an unknown override, for a kind of model that transformers does not know or that
    cannot answer token by token, and for a file that is damaged or that this version misreads.
    """
    with no_code_of(folder, "configuration") as no_code:
        kind = read_object(Path(folder) / "config.json", DOWNLOAD) or {}
        if "model_type" not in kind:
            raise ValueError(
                f"{folder}: config.json names no model_type: not a model of transformers, perhaps one of "
                "diffusers or timm"
            )
        config = AutoConfig.from_pretrained(folder, **no_code)
        check_config(Path(folder))
    obstacle = _answering_obstacle(config)
    if obstacle is not None:
        raise ValueError(
            f"{folder}: a {config.model_type!r} cannot answer here: {obstacle}; take a model that "
            "transformers loads as a causal or an image-text-to-text model"
        )
    config_without_noise(config)
    for key, value in overrides.items():
        if not hasattr(config, key):
            raise ValueError(f"worker.actor.model.override_config: {type(config).__name__} has no {key!r}")
        if is_noise(key) and value:
            raise ValueError(
                f"worker.actor.model.override_config: {key} stays 0: with it, an update would not see the "
                "policy that sampled"
            )
        setattr(config, key, value)
    return config


def auto_class(config: Any) -> Any:
    """The Auto class that makes models of a configuration."""
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def _answering_obstacle(config: Any) -> str | None:
    """Why models of a configuration cannot continue a text token by token, in words; None where they can."""
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder and a decoder, and a prompt and its response are one text here"
    for mapping in (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING):
        if type(config) in mapping:
            made: Any = mapping[type(config)]
            if not issubclass(made, GenerationMixin):
                return "its answers do not grow token by token"
            if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
                return "it fills gaps, so its tokens see those that come after them"
            return None
    return "transformers has no class of it that writes text"


def load_model(
    folder: str | Path, dtype: torch.dtype = torch.float32, **config_overrides: Any
) -> PreTrainedModel:
    """A causal or image-text-to-text model; never code from the model's repository. SDPA attention, and
    transformers' own ("eager") where a part of the model has no other.

    A folder with a LoRA adapter gives the model under the adapter, with the adapter merged in. Raises
    DamagedError for a checkpoint's folder that changed since it was saved, ValueError for weights that are
    unreadable or not all there, and for an adapter that cannot be merged (adapters.py).
    """
    check_model_files(Path(folder))
    if (Path(folder) / "adapter_config.json").exists():
        if not any((Path(folder) / name).exists() for name in _ADAPTER_FILES):
            raise ValueError(f"{folder}: its adapter_config.json is there, but no {_ADAPTER_FILES[0]}")
        base = load_model(base_folder(Path(folder)), dtype, **config_overrides)
        return merged(base, Path(folder))
    config = model_config(folder, **config_overrides)
    try:
        with no_code_of(folder, "model") as no_code:
            # No choice of attention, also where the file has one, is SDPA for each part that has it.
            model, found = auto_class(config).from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=None,
                ignore_mismatched_sizes=True,  # which are told below
                output_loading_info=True,
                **no_code,
            )
    except SafetensorError as error:
        raise ValueError(
            f"{folder}: its weights are damaged ({error}): copy or download them again"
        ) from error
    if (misfit := _misfit(model, found)) is not None:
        raise ValueError(
            f"{folder}: {misfit}: they are of another model or another task, or not complete; download them "
            "again, or take another model"
        )
    use_group_attention(model)
    batch_vision(model)
    return model


def _misfit(model: PreTrainedModel, found: Mapping[str, Any]) -> str | None:
    """What of a model the files do not hold, in words; None where they hold all of it. found: transformers'
    account of the loading. What they lack would be random."""
    names, kind = {name for name, _ in model.named_parameters()}, type(model).__name__
    absent = sorted(set(found["missing_keys"]) & names)
    others = sorted(misshapen(found))
    lacks = f"lack {len(absent):,} weights of a {kind}"
    differs = f"have {len(others):,} weights in other shapes than config.json gives a {kind}"
    for what, of in ((lacks, absent), (differs, others)):
        if of:
            return f"its files {what} ({', '.join(of[:3])}{', ...' * (len(of) > 3)})"
    return None


def adapter_base(adapter: Path) -> str:
    """The path of the model that a LoRA adapter was trained on.

    Raises ValueError for other adapters: their files can name tokenizers and modules that peft would load.
    """
    settings = read_object(adapter / "adapter_config.json", DOWNLOAD, ["base_model_name_or_path"]) or {}
    if settings.get("peft_type") != "LORA" or settings.get("megatron_config"):
        raise ValueError(
            f"{adapter / 'adapter_config.json'}: no LoRA adapter, and only those are loaded here"
        )
    return str(settings["base_model_name_or_path"])


def misfit_of_headers(model: PreTrainedModel, headers: Mapping[str, torch.Tensor]) -> str | None:
    """What of a model its files do not hold, in words; None where they hold all of it. headers: what they
    hold, by name, on the meta device; model: there, too. transformers matches them as when it loads."""
    loaded: Any = type(model).from_pretrained(
        None,
        config=model.config,
        state_dict=dict(headers),
        device_map={"": "meta"},
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return _misfit(model, loaded[1])


def base_folder(adapter: Path) -> Path:
    """The folder of the model that a LoRA adapter was trained on. Raises NoModelFolder where it is gone."""
    base = adapter_base(adapter)
    try:
        return model_folder(base)
    except NoModelFolder as error:
        raise NoModelFolder(
            f"{adapter} is a LoRA adapter to {base}, and {error.reason.partition(';')[0]}: put that model "
            "there, or copy the adapter's folder and name the model's place in its adapter_config.json "
            "(base_model_name_or_path)",
            key="",
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """The files with weights in a model's folder."""
    return sorted(p for p in folder.iterdir() if p.name.endswith(WEIGHTS) and p.suffix != ".json")


def copy_without_weights(source: Path, folder: Path) -> None:
    """Copy a model folder's files but for its weights; files that `folder` has already stay as they are."""
    for path in source.iterdir():
        if path.is_file() and not path.name.endswith(WEIGHTS) and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def load_for_inference(folder: str | Path) -> PreTrainedModel:
    """The model in bfloat16 on the GPU, or in float32 on a CPU; no gradients."""
    cuda = torch.cuda.is_available()
    model: Any = load_model(folder, torch.bfloat16 if cuda else torch.float32)
    return model.to("cuda" if cuda else "cpu").requires_grad_(False).eval()


# Names in a configuration of the tokens that stand for pictures, videos and sound, or frame them.
_SENSES = re.compile(r"(image|img|boi|eoi|video|vision|audio|boa|eoa)(_\w+)?_token_(id|index)")


def banned_ids(config: Any) -> tuple[int, ...]:
    """Ids of a model config that stand for pictures, videos and sound, which no response may contain; empty
    for text-only models.

    A policy can sample `<|image_pad|>`; the next forward would then count more image tokens than image
    features. The sampler and the trainer's log-probs give them -inf alike, so that both see one distribution.
    Tokens that only the processor knows (rows of tiles, say) are plain words to a model.
    """
    named = {value for name, value in vars(config).items() if _SENSES.fullmatch(name)}
    known = config.get_text_config().vocab_size
    return tuple(sorted(value for value in named if isinstance(value, int) and 0 <= value < known))


def eos_ids(generation_config: GenerationConfig | None, tokenizer: Any) -> tuple[int, ...]:
    """Every token id that ends a response. Raises ValueError where no file of the model names one."""
    ids = getattr(generation_config, "eos_token_id", None)
    if ids is None:
        ids = tokenizer.eos_token_id
    ids = tuple(ids) if isinstance(ids, list | tuple) else (ids,)
    if ids in ((), (None,)):
        raise ValueError(
            f"{tokenizer.name_or_path}: no token ends a response: neither generation_config.json nor "
            "config.json names an eos_token_id, and the tokenizer has no eos_token. Write the eos_token_id "
            "of the token that ends a turn in the chat template into generation_config.json"
        )
    return ids


def read_generation_config(folder: Path, config: Any) -> GenerationConfig:
    """As `load_model` gives it to the model in a folder. config: transformers' of that model."""
    if (folder / "adapter_config.json").exists():
        folder = base_folder(folder)
    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder)
    return GenerationConfig.from_model_config(config)
