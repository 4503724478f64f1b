"""Which pictures a row means: encoded bytes, base64, or the file that a path or a URL names."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from gmpo_vl.data.mapping import MappingFile, value_of
from gmpo_vl.data.rows import RowError, stored_picture

# How the common formats begin: PNG, JPEG, GIF, BMP, WebP (RIFF), TIFF.
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")


def pictures_of_row(row: Mapping[str, Any], mapping: MappingFile) -> list[Any]:
    """An empty column: the row has no such picture. An empty entry in a list: a lost picture, an error."""
    if mapping.images is None:
        return []
    columns = [mapping.images] if isinstance(mapping.images, str) else mapping.images
    found: list[Any] = []
    for column in columns:
        value = value_of(row, column, "images")
        if value is None or value == "":
            continue
        items = value if isinstance(value, list | tuple) else [value]
        for i, item in enumerate(items, start=1):
            if item is None or item == "":
                raise RowError("image_missing", f"image {i} of {len(items)} in {column!r} is empty")
            found.append(_image(item, mapping))
    return found


def _image(item: Any, mapping: MappingFile) -> Any:
    """Bytes or a path. Anything else stays as it is, and `example_from_row` refuses it."""
    item = stored_picture(item)
    if not isinstance(item, str):
        return item
    encoded = _from_base64(item)
    return encoded if encoded is not None else _path_of(item, mapping)


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


def _path_of(name: str, mapping: MappingFile) -> str:
    """The file that is meant: a path, else the only file of the picture folder with that name or stem.

    For a URL, the file with its last part: users download pictures, this code never does.
    """
    is_url = name.startswith(("http://", "https://"))
    wanted = unquote(Path(urlparse(name).path).name) if is_url else name
    path = mapping.pictures / wanted
    if not is_url and "\0" not in name and path.is_file():
        return str(path)
    found = _index(mapping.pictures).get(Path(wanted).name, [])
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise RowError("image_missing", f"{len(found)} files are called {wanted!r}: {', '.join(found[:3])}")
    advice = "download the pictures and set image_folder" if is_url else "image_folder says where they lie"
    raise RowError("image_missing", f"no file {wanted[:300]!r} in {mapping.pictures}; {advice}")


@lru_cache(maxsize=8)
def _index(folder: Path) -> dict[str, list[str]]:
    """{file name, or name without its suffix: paths} of everything in a folder and its subfolders."""
    index: dict[str, list[str]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            for key in {name, Path(name).stem}:
                index.setdefault(key, []).append(os.path.join(parent, name))
    return index
