"""Has what a run trains on, or started from, changed since a checkpoint was written? Hashes of kept rows,
pictures and weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from gmpo_vl.data.examples import ExampleSet
from gmpo_vl.models.loading import WEIGHTS, base_folder, weight_files
from gmpo_vl.storage.files import read_object, write_json
from gmpo_vl.storage.manifest import measured
from gmpo_vl.types import ImageSource

# In a config.json: who wrote it, and the dtype of its files, in place of which a run has its own.
_OF_NO_EFFECT = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")
_OF_PROMPTS = (".json", ".jinja", ".model", ".txt")


@dataclass(frozen=True)
class Fingerprint:
    """texts: sha256 of ids, problems, answers and, of rows that have one, games, in order. pictures: of the
    pictures as they are encoded."""

    texts: str
    pictures: str


def fingerprint_of(examples: ExampleSet, cache: Path) -> Fingerprint:
    """Of the kept rows. Where a picture lies does not matter. Raises OSError for a picture's file that is
    gone.

    cache: of pictures' files, as of `FileHashes`.
    """
    digest = hashlib.sha256()
    for example in examples.without_pictures():
        texts = example.id, example.problem, example.answer
        digest.update(repr((*texts, example.game) if example.game else texts).encode("utf-8"))
    return Fingerprint(digest.hexdigest(), _of_pictures(examples, cache))


Known = dict[str, list[str]]


class FileHashes:
    """sha256 of files. cache: JSON file of those known already; a file is read again only after it, or the
    cache, changed."""

    def __init__(self, cache: Path):
        self._cache, self._before, self._seen = cache, _known(cache), Known()

    def of(self, path: str | Path) -> str:
        # By path, size and times. Of these the time of the last change cannot be set at will.
        path = os.path.abspath(path)
        found = os.stat(path)
        stamp = [str(value) for value in (found.st_size, found.st_mtime_ns, found.st_ctime_ns)]
        kept = self._seen.get(path) or self._before.get(path)
        self._seen[path] = (
            kept if kept is not None and kept[1:] == stamp else [measured(Path(path)).sha256, *stamp]
        )
        return self._seen[path][0]

    def keep(self) -> None:
        """Write what was asked for into the cache."""
        if self._seen != self._before:
            write_json(self._cache, {"sha256": _sum(self._seen), "files": self._seen})


def _of_pictures(examples: ExampleSet, cache: Path) -> str:
    hashes = FileHashes(cache)

    def of_picture(image: ImageSource) -> str:
        if isinstance(image, Image.Image):  # a program's own rows
            return hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).hexdigest()
        return hashes.of(image) if isinstance(image, str) else hashlib.sha256(image).hexdigest()

    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{len(example.images)};".encode())
        for image in example.images:
            digest.update(of_picture(image).encode())
    hashes.keep()
    return digest.hexdigest()


def weights_hash(folder: Path, cache: Path) -> str:
    """sha256 over a model's files of weights, wherever they lie; of an adapter and its base together. cache:
    as of `FileHashes`."""
    hashes = FileHashes(cache)
    folders = [folder, base_folder(folder)] if _is_adapter(folder) else [folder]
    files = [path for one in folders for path in weight_files(one)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:  # reading and hashing hold no lock
        of_files = list(threads.map(hashes.of, files))
    hashes.keep()
    return hashlib.sha256(repr(of_files).encode()).hexdigest()


def config_values(folder: Path) -> dict[str, str]:
    """What a model's config.json says, an adapter's base's: each value as JSON, by its dotted key."""
    path = (base_folder(folder) if _is_adapter(folder) else folder) / "config.json"
    return dict(_flat(read_object(path) or {}))


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        elif key not in _OF_NO_EFFECT:
            yield f"{before}{key}", json.dumps(value)


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of a model's files, by name, but for its config.json and weights: templates, and those of
    tokenizer, processor and generation."""
    return {
        path.name: measured(path).sha256
        for path in folder.iterdir()
        if path.suffix in _OF_PROMPTS and path.name != "config.json" and not path.name.endswith(WEIGHTS)
    }


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


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
