"""Questions with pictures of noise."""

import io

import numpy as np
from PIL import Image

from gmpo_vl.data.images import decode_image
from gmpo_vl.types import Example


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def question(*sizes: tuple[int, int], text: str = "What is 3 + 4?", seed: int = 0) -> Example:
    """sizes: (width, height) of its pictures, which stand before the text."""
    pictures = tuple(png(noise(*size, seed + i)) for i, size in enumerate(sizes))
    return Example("q", "<image>" * len(pictures) + text, "7", pictures)


def pictures_of(example: Example) -> list[Image.Image]:
    return [decode_image(source) for source in example.images]


# Of none, one and two pictures.
QUESTIONS = [question(), question((100, 70)), question((100, 70), (60, 120), text="\n\nAnd these two?")]
