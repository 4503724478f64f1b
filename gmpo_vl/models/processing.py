"""Example -> Prompt -> patches: chat template, token ids with images expanded, resizing, positions, pixels.

Works from a model folder's tokenizer and image-processor configuration. It does not need torchvision, which
transformers' own `Qwen2_5_VLProcessor` wants for video.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gmpo_vl.data.images import MAX_IMAGE_PIXELS, decode_image, fit_pixels, fit_size, image_size
from gmpo_vl.data.templates import IMAGE_TAG, render_problem, to_messages
from gmpo_vl.models.compat import DOWNLOAD, load_image_processor, no_code_of, smart_resize
from gmpo_vl.models.control import ControlTokens
from gmpo_vl.storage.files import read_object
from gmpo_vl.types import Example, ImageSettings, Prompt


@dataclass(frozen=True)
class Processor:
    """Turns examples into prompts, and tokens into text. `image` is None for text-only models."""

    tokenizer: Any
    chat_template: str
    image: ImageSettings | None
    image_token_id: int | None
    folder: Path

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    @cached_property
    def control(self) -> ControlTokens:
        return ControlTokens(self.tokenizer)

    def decode(self, ids_T: torch.Tensor) -> str:
        return self.tokenizer.decode(ids_T.tolist(), skip_special_tokens=True)


def load_processor(folder: str | Path, override_chat_template: str | Path | None = None) -> Processor:
    """Read tokenizer, chat template and image settings from a model folder (`loading.model_folder`)."""
    from transformers import AutoTokenizer

    folder = Path(folder)
    with no_code_of(folder, "tokenizer") as no_code:
        tokenizer = AutoTokenizer.from_pretrained(folder, **no_code)
    image_processor = load_image_processor(folder) if (folder / "preprocessor_config.json").exists() else None
    image_token_id = None
    if image_processor is not None:
        config = read_object(folder / "config.json", DOWNLOAD, ["image_token_id"]) or {}
        image_token_id = config["image_token_id"]
    return Processor(
        tokenizer=tokenizer,
        chat_template=_chat_template(folder, tokenizer, override_chat_template),
        image=None if image_processor is None else _image_settings(image_processor),
        image_token_id=image_token_id,
        folder=folder,
    )


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


def _image_settings(image_processor: Any) -> ImageSettings:
    size = dict(image_processor.size)
    return ImageSettings(
        patch_size=image_processor.patch_size,
        temporal_patch_size=image_processor.temporal_patch_size,
        merge_size=image_processor.merge_size,
        min_pixels=size.get("shortest_edge") or image_processor.min_pixels,
        max_pixels=size.get("longest_edge") or image_processor.max_pixels,
        rescale_factor=image_processor.rescale_factor,
        mean=tuple(image_processor.image_mean),
        std=tuple(image_processor.image_std),
    )


def resize_image(image: Image.Image, settings: ImageSettings) -> torch.Tensor:
    """uint8 (height, width, 3): whole merged patches within the processor's limits, bicubic as its own."""
    height, width = smart_resize(
        image.height, image.width, settings.factor, settings.min_pixels, settings.max_pixels
    )
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image))


def prompt_length(
    example: Example,
    processor: Processor,
    template: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> int:
    """Tokens that `encode_prompt` would give, image tokens included. No picture is decoded."""
    _, text_ids = _chat_ids(example, processor, template)
    _check_image_tokens(example, text_ids, processor)
    pictures = picture_length(example, processor, min_pixels, max_pixels, max_image_pixels)
    return len(text_ids) - len(example.images) + pictures


def picture_length(
    example: Example,
    processor: Processor,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> int:
    """Image tokens of all its pictures, from their sizes alone."""
    tokens = 0
    for source in example.images:
        settings = _require_image_settings(example, processor)
        width, height = fit_size(*image_size(source, max_image_pixels), min_pixels, max_pixels)
        height, width = smart_resize(height, width, settings.factor, settings.min_pixels, settings.max_pixels)
        tokens += settings.num_tokens(height, width)
    return tokens


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
    images: list[torch.Tensor] = []
    for source in example.images:
        settings = _require_image_settings(example, processor)
        picture = decode_image(source, max_image_pixels)
        images.append(resize_image(fit_pixels(picture, min_pixels, max_pixels), settings))
    text, ids = _chat_ids(example, processor, template)
    grid = torch.zeros((0, 3), dtype=torch.int64)
    merge_size = 1
    if processor.image is not None:
        ids = _expand_images(example, ids, images, processor)
        merge_size = processor.image.merge_size
        if images:
            grid = torch.tensor([processor.image.grid(*image.shape[:2]) for image in images])
    ids_P = torch.tensor(ids, dtype=torch.int64)
    positions = mrope_positions(ids_P, grid, processor.image_token_id, merge_size)
    return Prompt(example, text, ids_P, tuple(images), grid, positions)


def prompt_text(example: Example, processor: Processor, template: str | None = None) -> str:
    """The prompt in the chat format, one image token per picture. No picture is decoded."""
    return _chat_ids(example, processor, template)[0]


def _chat_ids(example: Example, processor: Processor, template: str | None) -> tuple[str, list[int]]:
    """A prompt's text and ids, one image token per picture. ValueError names the template at fault."""
    control = processor.control
    hides = bool(control.found(example.problem))
    try:
        problem = control.hide(example.problem) if hides else example.problem
        content = _in_template(problem, template)
        chat = _in_chat(content, len(example.images), processor)
        if not hides:
            return chat, processor.tokenizer(chat, add_special_tokens=False)["input_ids"]
        for text, changer in ((content, "data.format_prompt"), (chat, "the chat template")):
            if not control.kept(problem, text):
                raise ValueError(
                    f"{changer} changes the problem's text, which holds control tokens of the model; let it "
                    "show the problem as it is, or take them out"
                )
        return control.encode(chat)
    except ValueError as error:
        raise ValueError(f"{example.id}: {error}") from error


def _in_template(problem: str, template: str | None) -> str:
    """The problem in the text of `data.format_prompt`."""
    with _rendering("data.format_prompt"):
        content = render_problem(problem, template)
    made, given = content.count(IMAGE_TAG), problem.count(IMAGE_TAG)
    if made != given:
        raise ValueError(f"data.format_prompt makes {made} {IMAGE_TAG} tags of the problem's {given}")
    return content


def _in_chat(content: str, num_images: int, processor: Processor) -> str:
    """The turn in the chat format, one image token per picture."""
    messages = to_messages(content, num_images)
    with _rendering("the chat template"):
        return processor.tokenizer.apply_chat_template(
            messages, chat_template=processor.chat_template, add_generation_prompt=True, tokenize=False
        )


@contextmanager
def _rendering(what: str) -> Iterator[None]:
    """A template is anybody's code: whatever it raises becomes a ValueError that names the template."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{what} cannot be rendered: {type(error).__name__}: {error}") from error


def _require_image_settings(example: Example, processor: Processor) -> ImageSettings:
    if processor.image is None:
        raise ValueError(
            f"{example.id}: the row has pictures, but the model in {processor.folder} has no image processor"
        )
    return processor.image


def _check_image_tokens(example: Example, ids: list[int], processor: Processor) -> None:
    found = 0 if processor.image_token_id is None else ids.count(processor.image_token_id)
    if found != len(example.images) and processor.image is not None:
        raise ValueError(
            f"{example.id}: {found} image tokens for {len(example.images)} pictures; "
            "does the chat template write one for each, and none of its own?"
        )


def _expand_images(
    example: Example, ids: list[int], images: list[torch.Tensor], processor: Processor
) -> list[int]:
    """Repeat every image token once for each merged patch of its picture."""
    assert processor.image is not None
    _check_image_tokens(example, ids, processor)
    counts = iter([processor.image.num_tokens(*image.shape[:2]) for image in images])
    expanded: list[int] = []
    for token in ids:
        expanded += [token] * (next(counts) if token == processor.image_token_id else 1)
    return expanded


def mrope_positions(
    ids_P: torch.Tensor, image_grid_thw: torch.Tensor, image_token_id: int | None, merge_size: int
) -> torch.Tensor:
    """int64 (3, P): time, height and width position of every token (mRoPE: Qwen2-VL, section 2.1).

    Text counts 0, 1, 2, ... on all rows. An image holds its first position on the time row and counts merged
    patches on the other two; the text after it continues at the largest position + 1.
    """
    is_image_P = ids_P == (-1 if image_token_id is None else image_token_id)
    rows: list[torch.Tensor] = []
    token, position = 0, 0
    for _, height, width in image_grid_thw.tolist():
        first = token + int(is_image_P[token:].int().argmax())
        rows.append(torch.arange(position, position + first - token).expand(3, -1))
        position += first - token
        height, width = height // merge_size, width // merge_size
        h, w = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        rows.append(torch.stack([torch.zeros_like(h), h, w]).reshape(3, -1) + position)
        position += max(height, width)
        token = first + height * width
    rows.append(torch.arange(position, position + len(ids_P) - token).expand(3, -1))
    return torch.cat(rows, dim=1)


@lru_cache(maxsize=8)
def _normalised_values(settings: ImageSettings) -> torch.Tensor:
    """float32 (3, 256): the processor's result for every pixel value.

    transformers itself computes the 256 values once; pixels look them up, equal to the bit on every device.
    """
    from transformers.image_transforms import normalize, rescale

    values = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 1, 256))
    scaled = rescale(values, settings.rescale_factor, input_data_format="channels_first")
    normal = normalize(scaled, list(settings.mean), list(settings.std), input_data_format="channels_first")
    return torch.from_numpy(normal.astype(np.float32)).squeeze(1)


def make_patches(image_HWC: torch.Tensor, settings: ImageSettings) -> torch.Tensor:
    """float32 (patches, channels * temporal * patch * patch), in the ViT's order (2x2 neighbours together).

    On the picture's device, and equal to the image processor's output to the bit.
    """
    height, width, channels = image_HWC.shape
    p, m = settings.patch_size, settings.merge_size
    table = _normalised_values(settings).to(image_HWC.device)
    channel = torch.arange(channels, device=image_HWC.device)[:, None, None]
    pixels_CHW = table[channel, image_HWC.permute(2, 0, 1).long()]
    blocks = pixels_CHW.reshape(channels, height // (p * m), m, p, width // (p * m), m, p)
    blocks = blocks.permute(1, 4, 2, 5, 0, 3, 6)  # (gh, gw, m, m, C, p, p)
    blocks = blocks.unsqueeze(5).expand(*blocks.shape[:5], settings.temporal_patch_size, p, p)
    return blocks.reshape((height // p) * (width // p), -1)
