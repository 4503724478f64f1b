"""What a row becomes: `Example` (as read), then `Prompt` (as the model sees it).

Shape letters used all over the project:
    P  tokens of a prompt, image tokens included     T  tokens of a response (padded: of the longest)
    B  responses in a batch                          G  responses per prompt      N  images of a prompt
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from PIL import Image

# An image that is not decoded yet: encoded bytes, a path, or a PIL image.
ImageSource = bytes | str | Image.Image


@dataclass(frozen=True)
class Example:
    """One row of a data set.

    `problem` carries one `<image>` tag per image. `answer` is a plain string, or a JSON object string written by
    `data.answers.encode_answer` (gold, type, tolerance, choices): EasyR1 hands a reward nothing but that column.
    `id` is unique within its data set and stable between runs.
    """

    id: str
    problem: str
    answer: str
    images: tuple[ImageSource, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageSettings:
    """What an image processor's configuration says. Sizes in pixels; `mean` and `std` per channel, in units of 1."""

    patch_size: int
    temporal_patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    rescale_factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def factor(self) -> int:
        """Height and width of a resized image are multiples of this: one merged patch."""
        return self.patch_size * self.merge_size

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """Patches in (time, height, width) of a resized image."""
        return 1, height // self.patch_size, width // self.patch_size

    def num_tokens(self, height: int, width: int) -> int:
        """Image tokens of a resized image."""
        return (height // self.factor) * (width // self.factor)


@dataclass(frozen=True)
class Prompt:
    """An example as the model sees it.

    ids_P: int64, every image already expanded to its image tokens.
    images: one uint8 tensor (height, width, 3) per image, resized to whole merged patches. They are turned into
        patches on the device, per micro-batch: fp32 patches of a whole step would be gigabytes.
    image_grid_thw: int64 (N, 3): patches in time, height and width of each image.
    position_ids_3P: int64, mRoPE rows (time, height, width); equal rows for text-only prompts.
    """

    example: Example
    text: str
    ids_P: torch.Tensor
    images: tuple[torch.Tensor, ...]
    image_grid_thw: torch.Tensor
    position_ids_3P: torch.Tensor

    @cached_property
    def pictures_key(self) -> bytes:
        """The same for prompts with the same pictures in the same order, in every process."""
        digest = hashlib.blake2b(repr([tuple(image.shape) for image in self.images]).encode(), digest_size=16)
        for image in self.images:
            digest.update(image.contiguous().cpu().numpy().data)
        return digest.digest()
