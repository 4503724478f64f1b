"""Example -> Prompt: what is read of a model's folder for it, and the way of a row through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from gmpo_vl.data.images import MAX_IMAGE_PIXELS, decode_image, fit_pixels, fit_size, image_size
from gmpo_vl.models.chat import Chat, render_chat, token_after_answer, with_system_prompt
from gmpo_vl.models.compat import DOWNLOAD, load_image_processor, no_code_of
from gmpo_vl.models.control import ControlTokens
from gmpo_vl.models.families import Family
from gmpo_vl.models.families.own import OwnFamily, own_family
from gmpo_vl.models.families.qwen import QwenFamily, qwen_family
from gmpo_vl.models.families.text import TextFamily
from gmpo_vl.models.geometry import QWEN_VL
from gmpo_vl.storage.files import read_object
from gmpo_vl.types import Example, ImageSettings, Prompt

_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Processor:
    """Turns examples into prompts, and tokens into text."""

    tokenizer: Any
    chat_template: str
    family: Family
    folder: Path

    @property
    def sees(self) -> bool:
        """Does the model take pictures?"""
        return self.image_token_id is not None

    @property
    def image_token_id(self) -> int | None:
        return self.family.image_token_id

    @property
    def image(self) -> ImageSettings | None:
        """Of a family whose pictures this project resizes itself; None for others and without pictures."""
        return self.family.image if isinstance(self.family, QwenFamily) else None

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    @cached_property
    def control(self) -> ControlTokens:
        return ControlTokens(self.tokenizer)

    def decode(self, ids_T: torch.Tensor) -> str:
        return self.tokenizer.decode(ids_T.tolist(), skip_special_tokens=True)

    def chat(self, example: Example, template: str | None) -> Chat:
        return render_chat(
            example, self.tokenizer, self.control, self.chat_template, template, as_parts=self._as_parts
        )

    def with_system_prompt(self, system_prompt: str) -> Processor:
        """With a system turn before each chat. Raises ValueError where the chat template shows none."""
        template = with_system_prompt(self.chat_template, system_prompt, as_parts=self._as_parts)
        processor = replace(self, chat_template=template)
        try:
            shown = processor.chat(Example("", "What is 1 + 1?", "2"), None).text
        except ValueError as error:
            raise ValueError(f"the chat template takes no system_prompt{error}") from error
        if system_prompt.strip() not in shown:
            raise ValueError(
                f"the chat template leaves out or changes the system_prompt {system_prompt[:60]!r}"
            )
        return processor

    def token_after_answer(self) -> str | None:
        """The control token that ends the model's turn in its chat template; None where there is none."""
        return token_after_answer(self.tokenizer, self.control, self.chat_template, as_parts=self._as_parts)

    @property
    def _as_parts(self) -> bool:
        return isinstance(self.family, OwnFamily)


def load_processor(folder: str | Path, override_chat_template: str | Path | None = None) -> Processor:
    """Read tokenizer, chat template and image settings from a model folder (`loading.model_folder`)."""
    from transformers import AutoTokenizer

    folder = Path(folder)
    with no_code_of(folder, "tokenizer") as no_code:
        tokenizer = AutoTokenizer.from_pretrained(folder, **no_code)
    return Processor(
        tokenizer=tokenizer,
        family=_family(folder, tokenizer),
        chat_template=_chat_template(folder, tokenizer, override_chat_template),
        folder=folder,
    )


def _family(folder: Path, tokenizer: Any) -> Family:
    """By the model's kind. ValueError where a model that takes pictures has no file of an image processor."""
    config = read_object(folder / "config.json", DOWNLOAD) or {}
    kind = config.get("model_type")
    if not any((folder / name).exists() for name in _PROCESSOR_FILES):
        if "vision_config" in config or kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise ValueError(
                f"{folder}: a {kind!r} takes pictures, but there is neither {' nor '.join(_PROCESSOR_FILES)}"
                f", which say how they are prepared. To go on, {DOWNLOAD}"
            )
        return TextFamily()
    if kind not in QWEN_VL:
        return own_family(folder, tokenizer)
    config = read_object(folder / "config.json", DOWNLOAD, ["image_token_id"]) or {}
    return qwen_family(load_image_processor(folder), config["image_token_id"])


def _chat_template(folder: Path, tokenizer: Any, override: str | Path | None) -> str:
    if override is not None:
        return Path(override).read_text(encoding="utf-8")
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    found = read_object(folder / "chat_template.json", DOWNLOAD, ["chat_template"])
    if found is not None:
        return found["chat_template"]
    if tokenizer.chat_template is None:
        raise ValueError(
            f"{folder}: the model has no chat template; name a jinja file in data.override_chat_template"
        )
    return tokenizer.chat_template


def prompt_length(
    example: Example,
    processor: Processor,
    template: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> int:
    """Tokens that `encode_prompt` would give, image tokens included. No picture is decoded."""
    sizes = _fitted_sizes(example, processor, min_pixels, max_pixels, max_image_pixels)
    return processor.family.prompt_length(example, processor.chat(example, template), sizes)


def picture_length(
    example: Example,
    processor: Processor,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> int:
    """Image tokens of all its pictures, from their sizes alone."""
    sizes = _fitted_sizes(example, processor, min_pixels, max_pixels, max_image_pixels)
    return sum(processor.family.picture_length(*size) for size in sizes)


def _fitted_sizes(
    example: Example,
    processor: Processor,
    min_pixels: int | None,
    max_pixels: int | None,
    max_image_pixels: int,
) -> list[tuple[int, int]]:
    _check_sees(example, processor)
    stored = [image_size(source, max_image_pixels) for source in example.images]
    return [fit_size(*size, min_pixels, max_pixels) for size in stored]


def encode_prompt(
    example: Example,
    processor: Processor,
    template: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> Prompt:
    """An example as the model sees it. `min_pixels` / `max_pixels` scale a picture by area first, as EasyR1
    does; `max_image_pixels` is the limit of a stored picture.

    Control tokens that the problem spells out are plain text (control.py). Nothing is cut: the caller
    compares `len(ids_P)` with its limit. Raises ImageError for a picture that cannot be decoded, ValueError
    for pictures given to a text-only model.
    """
    _check_sees(example, processor)

    def pictures() -> Iterator[Image.Image]:  # one after the other: decoded ones are large
        for source in example.images:
            yield fit_pixels(decode_image(source, max_image_pixels), min_pixels, max_pixels)

    return processor.family.encode(example, processor.chat(example, template), pictures())


def prompt_text(example: Example, processor: Processor, template: str | None = None) -> str:
    """The prompt in the chat format, one image token per picture. No picture is decoded."""
    return processor.chat(example, template).encode()[0]


def picture_obstacle(processor: Processor, template: str | None = None) -> str | None:
    """Why no row with a picture can become a prompt, with the file to mend; None where one can.

    template: jinja text of `data.format_prompt`.
    """
    if not processor.sees:
        return (
            f"the model in {processor.folder} takes text alone, and the rows have pictures: name a "
            "vision-language model, or data without pictures"
        )
    probe = Example("probe", "<image>What is shown?", "1", (Image.new("RGB", (112, 112), "white"),))
    try:
        prompt_length(probe, processor, template)
    except ValueError as error:
        return (
            f"the chat template of {processor.folder} (data.override_chat_template), or data.format_prompt, "
            f"does not show a row's picture as the model wants it: {error}"
        )
    return None


def _check_sees(example: Example, processor: Processor) -> None:
    if example.images and not processor.sees:
        raise ValueError(
            f"{example.id}: the row has pictures, but the model in {processor.folder} has no image processor"
        )
