"""The model: its class, weights' files, tokens and chat template, and whether it looks at pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.data.templates import TemplateError, load_template
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.loading import banned_ids, base_folder, misfit_of_headers
from gmpo_vl.models.packing import ForwardOptions, pack
from gmpo_vl.models.processing import Processor, encode_prompt
from gmpo_vl.models.shared import KNOWN, first_way, is_known, sharing_obstacle
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.setup import check_tower, ends_of
from gmpo_vl.sizing.parameters import ModelSize, check_adapters
from gmpo_vl.types import Example, Prompt

MODEL_KEY = "worker.actor.model.model_path"
PROBE = "What is the value of x?"
DAMAGED = "it is cut off or damaged: download it again"
# Below this no token's probability moved: what rounding alone does is smaller still.
SMALLEST_CHANGE = 1e-4


def check_weights(folder: Path, size: ModelSize) -> Iterator[Finding]:
    """Every file of weights is there and whole; together they hold what the model's class wants. Only headers
    are read."""
    index, names = folder / "model.safetensors.index.json", ["model.safetensors"]
    if (folder / "adapter_config.json").exists():
        yield Finding("note", "weights", "a LoRA adapter: it is merged into its base model when loaded")
        try:
            yield from check_weights(base_folder(folder), size)
        except (OSError, ValueError) as error:
            yield Finding("error", "weights", str(error), str(folder), "an adapter needs its model")
        return
    if not index.is_file() and not (folder / names[0]).is_file() and list(folder.glob("*.bin")):
        yield Finding("note", "weights", "in torch's own format: they are looked at when they are loaded")
        return
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            what = f"{index.name} cannot be read: {type(error).__name__}: {error}"
            yield Finding("error", "weights", what, str(index), DAMAGED)
            return
    headers: dict[str, torch.Tensor] = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            what = f"the file {name} is missing"
            yield Finding("error", "weights", what, str(folder), "download the model again")
            return
        try:
            headers |= headers_of(path)
        except SafetensorError as error:
            yield Finding("error", "weights", f"{name} cannot be read: {error}", str(path), DAMAGED)
            return
    change = "is it the right folder, and is config.json that of these weights?"
    if (misfit := misfit_of_headers(size.model, headers)) is not None:
        yield Finding("error", "weights", misfit, str(folder), change)
        return
    yield Finding("ok", "weights", f"{size.parameters:,} parameters in {len(names)} files, all readable")


def headers_of(path: Path) -> dict[str, torch.Tensor]:
    """Names and shapes in a safetensors file, as tensors on the meta device. Raises SafetensorError."""
    with safe_open(path, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def check_model_class(config: Config, size: ModelSize) -> Iterator[Finding]:
    try:
        check_tower(config, size.config.model_type, size.towers)
        check_adapters(config, size)
    except ConfigError as error:
        key, _, what = str(error).partition(": ")
        what, _, change = what.partition("; ")
        yield Finding("error", "model", what, key, change)
    kind, obstacle = size.config.model_type, sharing_obstacle(size.config)
    if is_known(size.config):
        what = f"{kind}: each prompt is computed once per group, checked at the run's start"
        yield Finding("ok", "model", what)
        return
    if obstacle is None:
        what = (
            f"{kind}: not among {', '.join(sorted(KNOWN))}; each prompt is computed once per group if the "
            "check at the run's start finds that right, else rollouts run one at a time"
        )
        yield Finding("note", "model", what)
        return
    level = "warning" if config.worker.actor.share_prefix == "always" else "note"
    known = ", ".join(sorted(KNOWN))
    change = f"prompts are shared by {known}, and by what the check at a run's start finds right"
    yield Finding(level, "model", f"{obstacle}: rollouts run one at a time", MODEL_KEY, change)


def check_tokens(processor: Processor, size: ModelSize) -> Iterator[Finding]:
    """Vision tokens and vocabulary agree between tokenizer and model."""
    vocabulary, known = size.config.get_text_config().vocab_size, len(processor.tokenizer)
    folder, banned = str(processor.folder), banned_ids(size.config)
    if known > vocabulary:
        what = f"the tokenizer knows {known:,} tokens, the model only {vocabulary:,}"
        change = "take the tokenizer that belongs to the model (worker.actor.model.tokenizer_path)"
        yield Finding("error", "tokens", what, folder, change)
    if not processor.sees:
        yield Finding("note", "tokens", "no image processor: a text-only model")
        return
    if any(i >= known for i in banned) or processor.image_token_id not in banned:
        what = f"config.json names vision tokens {banned} that the tokenizer has not"
        change = "config.json and the tokenizer's files are of different models"
        yield Finding("error", "tokens", what, folder, change)
        return
    names = processor.tokenizer.convert_ids_to_tokens(list(banned))
    yield Finding("ok", "tokens", f"never sampled: {', '.join(map(str, names))}")


def check_ends(config: Config, processor: Processor) -> Iterator[Finding]:
    """A token ends a response, and it is the one that ends a turn in the chat template."""
    where = "generation_config.json"
    try:
        ends = ends_of(config, processor)
    except (ValueError, OSError) as error:
        what, _, change = str(error).partition(". ")
        yield Finding("error", "tokens", what, where, change)
        return
    names, turn = processor.tokenizer.convert_ids_to_tokens(list(ends)), processor.token_after_answer()
    if ends and turn is not None and turn not in names:
        number = processor.tokenizer.convert_tokens_to_ids(turn)
        what = f"a response ends at {', '.join(map(str, names))}, an answer in the chat template at {turn}"
        change = f"add {number} to eos_token_id: else answers run on to the limit"
        yield Finding("warning", "tokens", what, where, change)


def check_template(processor: Processor, format_prompt: str | None) -> Iterator[Finding]:
    """The templates show a sample problem once, whole, and the answer's turn comes last."""
    chat = "data.override_chat_template"
    try:
        template = load_template(format_prompt) if format_prompt else None
    except TemplateError as error:
        yield Finding("error", "template", str(error), "data.format_prompt", "name another, or mend the file")
        return
    pictures = (Image.new("RGB", (112, 112), "white"),) if processor.sees else ()
    example = Example("probe", "<image>" * len(pictures) + PROBE, "1", pictures)
    try:
        prompt = encode_prompt(example, processor, template)
    except ValueError as error:
        yield Finding("error", "template", f"no prompt can be made: {error}", chat, "mend the chat template")
        return
    times = prompt.text.count(PROBE)
    if times != 1:
        what, where = f"the problem stands {times} times in the prompt", f"data.format_prompt, {chat}"
        yield Finding("error", "template", what, where, "the templates must show it once")
        return
    tail = prompt.text.split(PROBE)[1]
    if not tail.strip():
        what = "nothing follows the problem: the model is not told that it is its turn"
        yield Finding("warning", "template", what, chat, "honour add_generation_prompt in it")
        return
    pictured = ""
    if processor.sees:
        seen = processor.family.picture_length(112, 112)
        pictured = f", a picture of 112 x 112 pixels is {seen} tokens"
    yield Finding("ok", "template", f"ends with {tail[-60:]!r}{pictured}")


def check_sight(
    model: PreTrainedModel, where: str, processor: Processor, prompt: Prompt, answer: str
) -> Iterator[Finding]:
    """Do the log-probs of an answer change when the picture turns grey?"""
    ids_T = torch.tensor(processor.tokenizer(answer, add_special_tokens=False)["input_ids"])
    grey = replace(prompt, images=tuple(torch.full_like(image, 128) for image in prompt.images))
    rows, options = [], ForwardOptions(first_way(model.config))
    for seen in (prompt, grey):
        packed = pack([(seen, ids_T)], processor.family, model.device)
        with torch.no_grad():
            log_probs_1T, _ = response_log_probs(
                model, packed, 1.0, banned_ids(model.config), options=options
            )
        rows.append(log_probs_1T[0])
    gap = float((rows[0] - rows[1]).abs().max())
    if gap > SMALLEST_CHANGE:
        yield Finding(
            "ok", "sight", f"on a grey picture the log-probs of an answer change by up to {gap:.2g}"
        )
        return  # not for NaN
    what = f"on a grey picture the log-probs of an answer change by {gap:.1e}: the model does not look"
    change = "a vision model whose pictures reach it (image tokens, processor, weights of the ViT)"
    yield Finding("error", "sight", what, where, change)
