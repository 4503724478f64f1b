"""Pixels that a program or a table holds (numpy arrays, nested lists, .npy files, PIL pictures) as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import Image

from gmpo_vl.data.images import ImageError, decode_image
from gmpo_vl.data.rows import RowError

if TYPE_CHECKING:
    import numpy as np

NPY = b"\x93NUMPY"


def png_of(image: Image.Image) -> bytes:
    """Raises RowError for a picture that cannot be decoded."""
    buffer = io.BytesIO()
    try:
        decode_image(image).save(buffer, "PNG")
    except ImageError as error:
        raise RowError("image_unreadable", str(error)) from error
    return buffer.getvalue()


def png_of_pixels(values: Any) -> bytes:
    """Of an array or nested list (height, width), (height, width, 1), (.., 3: RGB) or (.., 4: RGBA).

    Whole numbers are 0..255, in any type; other floats are 0..1 and are scaled by 255; booleans are black and
    white. Raises RowError for every other shape or range.
    """
    import numpy as np

    try:
        array = np.asarray(values)
    except ValueError as error:
        raise RowError("image_type", f"rows of pixels of different lengths: {error}") from error
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        shape = " x ".join(map(str, array.shape))
        raise RowError(
            "image_type",
            f"pixels of the shape {shape}; a picture is height x width, with 1, 3 or 4 channels last",
        )
    return png_of(Image.fromarray(_bytes(array)))


def png_of_npy(content: bytes) -> bytes:
    """Of a .npy file. Nothing in it is unpickled. Raises RowError."""
    import numpy as np

    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise RowError("image_unreadable", f"no array of pixels as numpy saves one: {error}") from error
    return png_of_pixels(values)


def _bytes(array: np.ndarray) -> np.ndarray:
    """uint8 of the same shape."""
    import numpy as np

    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind not in "uif":
        raise RowError("image_type", f"pixels of the type {array.dtype}; they are numbers")
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(array * 255).astype(np.uint8)
    if not (low >= 0 and high <= 255 and (array == np.rint(array)).all()):
        raise RowError(
            "image_type", f"pixels from {low:g} to {high:g}; they are whole numbers 0..255, or floats 0..1"
        )
    if high == 1:
        raise RowError(
            "image_type", "whole numbers 0 and 1 as pixels, all but black: write 0..255, or floats"
        )
    return array.astype(np.uint8)
