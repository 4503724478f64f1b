"""What a reward is told about a response: EasyR1's three keys, and what its file asks for of the row."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmpo_vl.types import Example

# What a reward's file may name in REWARD_INPUTS, and the field of an Example that it is.
OF_THE_ROW = {"id": "id", "problem": "problem", "images": "images", "meta": "meta", "stored_images": "images"}


def inputs_of(
    asks: Sequence[str], example: Example, responses: Sequence[tuple[str, int]]
) -> list[dict[str, Any]]:
    """One dict per response: `response`, `response_length`, `ground_truth`, and each of `asks`.

    responses: (text, tokens). `images` are RGB PIL pictures as stored, not resized; they are decoded once and
    shared by the example's responses. `stored_images` are not decoded: bytes or paths, in a tuple.
    `meta` is a copy each. Raises ImageError.
    """
    row: dict[str, Any] = {name: getattr(example, OF_THE_ROW[name]) for name in asks}
    if "images" in row:  # data.max_image_pixels was held against them when the rows were read
        from gmpo_vl.data.images import PILLOW_MAX_PIXELS, decode_image  # Pillow is not in the core

        row["images"] = [decode_image(image, PILLOW_MAX_PIXELS) for image in example.images]
    inputs = []
    for text, tokens in responses:
        given = {"response": text, "response_length": tokens, "ground_truth": example.answer, **row}
        if "images" in row:
            given["images"] = list(row["images"])
        if "meta" in row:
            given["meta"] = copy.deepcopy(row["meta"])
        inputs.append(given)
    return inputs


def asks_pictures(asks: Sequence[str]) -> bool:
    return any(OF_THE_ROW[name] == "images" for name in asks)


def carried(asks: Sequence[str], example: Example) -> Example:
    """The example for another process: without what the reward does not ask for, its pictures encoded."""
    images = example.images if asks_pictures(asks) else ()
    return replace(
        example,
        images=tuple(Path(image).read_bytes() if isinstance(image, str) else image for image in images),
        meta=example.meta if "meta" in asks else {},
    )
