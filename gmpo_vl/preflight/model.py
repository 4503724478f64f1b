"""The model's folder: its class, its weights' files, its tokens, its chat template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from safetensors import SafetensorError, safe_open

from gmpo_vl.config import Config
from gmpo_vl.data.templates import TemplateError, load_template
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.processing import Processor, encode_prompt
from gmpo_vl.models.shared import KNOWN, sharing_obstacle
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.sizing.estimate import ModelSize
from gmpo_vl.types import Example

PROBE = "What is the value of x?"
DAMAGED = "it is cut off or damaged: download it again"


def check_weights(folder: Path, size: ModelSize) -> Iterator[Finding]:
    """Every file of weights is there and whole; together they hold what the model's class wants."""
    index = folder / "model.safetensors.index.json"
    if (folder / "adapter_config.json").exists():
        yield Finding("note", "weights", "a LoRA adapter: it is merged into its base model when loaded")
        return
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            what = f"{index.name} cannot be read: {type(error).__name__}: {error}"
            yield Finding("error", "weights", what, str(index), DAMAGED)
            return
    else:
        names = ["model.safetensors"]
    elements = 0
    for name in names:
        path = folder / name
        if not path.is_file():
            yield Finding(
                "error", "weights", f"the file {name} is missing", str(folder), "download the model again"
            )
            return
        try:
            with safe_open(path, framework="pt") as file:
                shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
        except SafetensorError as error:
            yield Finding(
                "error",
                "weights",
                f"{name} cannot be read: {error}",
                str(path),
                DAMAGED,
            )
            return
        for shape in shapes:
            count = 1
            for side in shape:
                count *= side
            elements += count
    if elements < size.parameters:
        yield Finding(
            "warning",
            "weights",
            f"the files hold {elements:,} numbers, the model's class wants {size.parameters:,}",
            str(folder),
            "what is missing would be random: is it the right folder, and is config.json that of these weights?",
        )
        return
    yield Finding("ok", "weights", f"{size.parameters:,} parameters in {len(names)} files, all readable")


def check_model_class(config: Config, size: ModelSize) -> Iterator[Finding]:
    kind, obstacle = size.config.model_type, sharing_obstacle(size.config)
    if obstacle is None:
        yield Finding(
            "ok", "model", f"{kind}: each prompt is computed once per group, proved at the run's start"
        )
        return
    level = "warning" if config.worker.actor.share_prefix == "always" else "note"
    yield Finding(
        level,
        "model",
        f"{obstacle}: rollouts run one at a time",
        "worker.actor.model.model_path",
        f"prompts are shared by {', '.join(sorted(KNOWN))}, without sliding windows or attention_dropout",
    )


def check_tokens(processor: Processor, size: ModelSize) -> Iterator[Finding]:
    """Vision tokens and vocabulary agree between tokenizer and model."""
    vocabulary = size.config.get_text_config().vocab_size
    if len(processor.tokenizer) > vocabulary:
        yield Finding(
            "error",
            "tokens",
            f"the tokenizer knows {len(processor.tokenizer):,} tokens, the model only {vocabulary:,}",
            str(processor.folder),
            "take the tokenizer that belongs to the model (worker.actor.model.tokenizer_path)",
        )
    banned = banned_ids(size.config)
    if processor.image is None:
        yield Finding("note", "tokens", "no image processor: a text-only model")
        return
    unknown = [i for i in banned if i >= len(processor.tokenizer)]
    if unknown or processor.image_token_id not in banned:
        yield Finding(
            "error",
            "tokens",
            f"config.json names vision tokens {banned} that the tokenizer has not",
            str(processor.folder),
            "config.json and the tokenizer's files are of different models",
        )
        return
    names = processor.tokenizer.convert_ids_to_tokens(list(banned))
    yield Finding("ok", "tokens", f"never sampled: {', '.join(map(str, names))}")


def check_template(processor: Processor, format_prompt: str | None) -> Iterator[Finding]:
    """A sample problem goes through format prompt and chat template once, whole, and the answer's turn comes last."""
    try:
        template = load_template(format_prompt) if format_prompt else None
    except TemplateError as error:
        yield Finding("error", "template", str(error), "data.format_prompt", "name another, or mend the file")
        return
    pictures = (Image.new("RGB", (112, 112), "white"),) if processor.image is not None else ()
    example = Example("probe", "<image>" * len(pictures) + PROBE, "1", pictures)
    try:
        prompt = encode_prompt(example, processor, template)
    except ValueError as error:
        yield Finding(
            "error",
            "template",
            f"no prompt can be made: {error}",
            "data.override_chat_template",
            "mend the chat template",
        )
        return
    if prompt.text.count(PROBE) != 1:
        yield Finding(
            "error",
            "template",
            f"the problem stands {prompt.text.count(PROBE)} times in the prompt",
            "data.format_prompt, data.override_chat_template",
            "the templates must show it once",
        )
        return
    tail = prompt.text.split(PROBE)[1]
    if "assistant" not in tail.lower() and not tail.strip():
        yield Finding(
            "warning",
            "template",
            "nothing follows the problem: the model is not told that it is its turn",
            "data.override_chat_template",
            "honour add_generation_prompt in it",
        )
        return
    seen = int(prompt.image_grid_thw.prod(dim=1).sum()) // (
        processor.image.merge_size**2 if processor.image else 1
    )
    pictured = f", a picture of 112 x 112 pixels is {seen} tokens" if pictures else ""
    yield Finding("ok", "template", f"ends with {tail[-60:]!r}{pictured}")
