"""Has the training data changed since a checkpoint was written? Hashes of kept rows and pictures."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gmpo_vl.data.examples import ExampleSet
from gmpo_vl.storage.files import read_object, write_json
from gmpo_vl.storage.manifest import measured
from gmpo_vl.types import ImageSource


@dataclass(frozen=True)
class Fingerprint:
    """texts: sha256 of ids, problems and answers, in order. pictures: of the pictures as they are encoded."""

    texts: str
    pictures: str


def fingerprint_of(examples: ExampleSet, cache: Path) -> Fingerprint:
    """Of the kept rows. Where a picture lies does not matter. Raises OSError for a picture's file that is
    gone.

    cache: JSON file with the hashes of pictures' files. A file is read again only after it, or the cache,
    changed.
    """
    digest = hashlib.sha256()
    for texts in examples.texts():
        digest.update(repr(texts).encode("utf-8"))
    return Fingerprint(digest.hexdigest(), _of_pictures(examples, cache))


Known = dict[str, list[str]]


def _of_pictures(examples: ExampleSet, cache: Path) -> str:
    before = _known(cache)
    seen: Known = {}

    def of_picture(image: ImageSource) -> str:
        if isinstance(image, Image.Image):  # a program's own rows
            return hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).hexdigest()
        if not isinstance(image, str):
            return hashlib.sha256(image).hexdigest()
        # By path, size and times. Of these the time of the last change cannot be set at will.
        path, found = os.path.abspath(image), os.stat(image)
        stamp = [str(value) for value in (found.st_size, found.st_mtime_ns, found.st_ctime_ns)]
        kept = seen.get(path) or before.get(path)
        seen[path] = kept if kept is not None and kept[1:] == stamp else [measured(Path(path)).sha256, *stamp]
        return seen[path][0]

    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{len(example.images)};".encode())
        for image in example.images:
            digest.update(of_picture(image).encode())
    if seen != before:
        write_json(cache, {"sha256": _sum(seen), "files": seen})
    return digest.hexdigest()


def _known(cache: Path) -> Known:
    """{path: [sha256, size, times]} as written before; nothing where the file is not what was written."""
    try:
        found = read_object(cache) or {}
    except ValueError:
        return {}
    files = found.get("files")
    return files if isinstance(files, dict) and found.get("sha256") == _sum(files) else {}


def _sum(files: Known) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
