"""What a model's own processor makes of a prompt's pictures, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from gmpo_vl.models.families.own import OwnFamily
from gmpo_vl.types import Prompt


@dataclass(frozen=True)
class Seen:
    """processor: the class that made it. shapes: of what it hands to the model. pictures: the same turned
    back into pictures, resized, cut or in tiles as the model gets them; none where it hands on patches."""

    processor: str
    shapes: tuple[str, ...]
    pictures: tuple[Image.Image, ...]


def seen_by_model(family: OwnFamily, prompt: Prompt) -> Seen | None:
    """None for a prompt without pictures."""
    if not prompt.images:
        return None
    inputs = {name: value for name, value in family.picture_inputs(prompt).items() if torch.is_tensor(value)}
    shapes = tuple(f"{name} {' x '.join(map(str, value.shape))}" for name, value in inputs.items())
    image_processor = family.processor.image_processor
    values = inputs.get("pixel_values")
    tiles = [] if values is None else _tiles(values, image_processor)
    return Seen(family.processor_name, shapes, tuple(_picture(tile, image_processor) for tile in tiles))


def _tiles(values: torch.Tensor, image_processor: Any) -> list[torch.Tensor]:
    """(3, H, W) each, without the tiles that only fill up; none where the values are rows of patches."""
    is_row = values.ndim < 4 or values.shape[-2] == getattr(image_processor, "patch_size", None)
    if is_row or values.shape[-3] != 3:
        return []
    return [tile for tile in values.flatten(0, -4) if tile.any()]


def _picture(values_CHW: torch.Tensor, image_processor: Any) -> Image.Image:
    """The processor's normalisation and scaling taken back."""
    pixels_HWC = values_CHW.permute(1, 2, 0).double()
    if image_processor.do_normalize:
        mean, std = (
            torch.tensor(x).double() for x in (image_processor.image_mean, image_processor.image_std)
        )
        pixels_HWC = pixels_HWC * std + mean
    if image_processor.do_rescale:
        pixels_HWC = pixels_HWC / image_processor.rescale_factor
    return Image.fromarray(pixels_HWC.round().clamp(0, 255).to(torch.uint8).numpy())
