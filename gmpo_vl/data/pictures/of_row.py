"""Which pictures a row means: encoded bytes, base64, pixels, or the file that a path or a URL names."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from gmpo_vl.data.mapping import MappingFile, optional_value
from gmpo_vl.data.pictures.folder import PICTURES
from gmpo_vl.data.pictures.pixels import NPY, png_of, png_of_npy, png_of_pixels
from gmpo_vl.data.rows import RowError, stored_picture
from gmpo_vl.data.values import texts_in

# How the common formats begin: PNG, JPEG, GIF, BMP, WebP (RIFF), TIFF, numpy's.
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*", NPY)
_MOST_FOLDERS = 1000  # that are looked at for pictures beside a table


Check = Callable[[str], None]


def pictures_of_row(
    row: Mapping[str, Any], mapping: MappingFile, beside: Path | None = None, check: Check | None = None
) -> list[Any]:
    """An empty column: the row has no such picture. An empty entry in a list: a lost picture, an error.

    beside: the folder of the row's table, where names begin before they begin at the mapping's. check: raises
    RowError for a file that a row may not name; asked before the file is read.
    """
    if mapping.images is None:
        return []
    columns = [mapping.images] if isinstance(mapping.images, str) else mapping.images
    found: list[Any] = []
    for column in columns:
        items = entries_of(optional_value(row, column, "images"))
        for i, item in enumerate(items, start=1):
            if item is None or (isinstance(item, str) and not item):
                raise RowError("image_missing", f"image {i} of {len(items)} in {column!r} is empty")
            found.append(_image(item, mapping, beside, check))
    return found


def entries_of(value: Any) -> list[Any]:
    """A column's pictures, those in pixels as PNG: none, one, a list of them, or such a list as text."""
    if isinstance(value, str):
        listed = texts_in(value)
        return (listed if listed is not None else [value]) if value else []
    if value is None:
        return []
    dimensions = _dimensions(value)
    if dimensions in (2, 3):  # the pixels of one picture; four are those of several
        return [png_of_pixels(value)]
    items = list(value) if isinstance(value, list | tuple) or dimensions > 0 else [value]
    return [_without_pixels(item) for item in items]


def _dimensions(value: Any) -> int:
    """Of a numpy array, or of a list of lists of numbers; 0 for anything else."""
    if isinstance(getattr(value, "ndim", None), int) and hasattr(value, "dtype"):
        return value.ndim
    depth = 0
    while isinstance(value, list | tuple) and value:
        depth, value = depth + 1, value[0]
    return depth if isinstance(value, int | float) else 0


def _without_pixels(item: Any) -> Any:
    item = stored_picture(item)
    if isinstance(item, Image.Image):
        return png_of(item)
    if _dimensions(item) > 1:
        return png_of_pixels(item)
    if isinstance(item, bytes | bytearray) and item.startswith(NPY):
        return png_of_npy(bytes(item))
    return item


def _image(item: Any, mapping: MappingFile, beside: Path | None, check: Check | None) -> Any:
    """Bytes or a path. Anything else stays as it is, and `example_from_row` refuses it."""
    if not isinstance(item, str):
        return item
    found = _from_base64(item)
    if found is None:
        found = _file(item, mapping, beside)
    if check is not None and isinstance(found, str):
        check(found)
    if isinstance(found, str) and found.lower().endswith(".npy"):
        found = Path(found).read_bytes()
    return png_of_npy(found) if isinstance(found, bytes) and found.startswith(NPY) else found


def _file(name: str, mapping: MappingFile, beside: Path | None) -> str | bytes:
    """The picture of that name: below the table's folder, as in `train/metadata.csv` with `train/1.png`, else
    what it means below the mapping's. Raises RowError, also where both have one.
    """
    own = os.path.join(beside or "", mapping.image_folder or "", name)
    if beside is None or not os.path.isfile(own):
        return mapping.pictures.find(name)
    other = os.path.join(mapping.pictures.root, name)
    if os.path.isfile(other) and not os.path.samefile(own, other):
        raise RowError(
            "image_ambiguous",
            f"{name[:300]!r} can be {own} or {other}: an image_folder from / on says which is meant",
        )
    return own


def _from_base64(text: str) -> bytes | None:
    """The picture in a data URI or in plain base64; None where the text is something else."""
    is_uri = text.startswith("data:image/")
    if is_uri:
        text = text.partition(",")[2]
    elif len(text) < 64:
        return None
    try:
        head = base64.b64decode(text[:64].strip(), validate=True)
        if is_uri or head.startswith(_MAGIC):
            return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        if is_uri:
            raise RowError("image_unreadable", f"a data URI that is no base64: {error}") from error
    return None


def pictures_below(folder: Path) -> Iterator[Path]:
    """Files of pictures in the folder and below it; of a large tree, in its first folders."""
    for top, _, names in islice(os.walk(folder), _MOST_FOLDERS):
        yield from (Path(top, name) for name in names if name.lower().endswith(PICTURES[:-1]))
