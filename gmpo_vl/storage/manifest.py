"""manifest.json of a checkpoint names every file with its size and sha256. It is checked before a file is
read.

A run that goes on from changed files would not notice it. So every file that is read must be what was saved,
to the byte. Added files are ignored, unless a loader would read them in place of saved ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from gmpo_vl.storage.files import read_object, write_text

MANIFEST = "manifest.json"
UNREAD = ("README.md",)  # peft writes it for people
# What loaders look for.
READ = (".json", ".jinja", ".safetensors", ".bin", ".model", "merges.txt", "vocab.txt")
BLOCK = 1 << 22  # bytes


@dataclass(frozen=True)
class Written:
    """A file as it was saved."""

    size: int
    sha256: str


Files = dict[str, Written]  # by their paths in the checkpoint, as POSIX writes them


class DamagedError(ValueError):
    """A file of a checkpoint is not what was saved. `problem` is a sentence about the file."""

    def __init__(self, folder: Path, problem: str):
        super().__init__(f"{folder} is damaged: {problem}")
        self.folder, self.problem = folder, problem


def measured(path: Path) -> Written:
    """Size and hash of a file, which is read once, in blocks."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return Written(size, digest.hexdigest())


def same_file(one: Path, other: Path) -> bool:
    """The same place, or a copy: files of one size and hash."""
    if one.resolve() == other.resolve():
        return True
    both = one.is_file() and other.is_file() and one.stat().st_size == other.stat().st_size
    return both and measured(one).sha256 == measured(other).sha256


def measure(folder: Path, names: Iterable[str]) -> Files:
    """Of files in a folder, in threads: neither reading nor hashing holds Python's lock."""
    names = sorted(names)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return dict(zip(names, threads.map(lambda name: measured(folder / name), names)))


def write_manifest(folder: Path, known: Mapping[str, Written]) -> None:
    """Complete a checkpoint with its manifest.json. known: files that were hashed when they were written."""
    others = measure(folder, (name for name in names_in(folder) if name not in known))
    write_text(folder / MANIFEST, _in_json({**known, **others}))


def _in_json(files: Files) -> str:
    written = {name: asdict(of_file) for name, of_file in sorted(files.items())}
    return json.dumps({"files": written}, indent=2) + "\n"


def names_in(folder: Path) -> list[str]:
    """The files of a checkpoint that belong into a manifest."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST and PurePosixPath(name).name not in UNREAD)


def read_manifest(folder: Path) -> Files | None:
    """None for a checkpoint without one. Raises DamagedError for a manifest that is not as it was written."""
    try:
        found = read_object(folder / MANIFEST, keys=("files",))
    except ValueError as error:
        raise DamagedError(folder, str(error)) from error
    if found is None:
        return None
    try:
        files = {name: Written(int(e["size"]), str(e["sha256"])) for name, e in found["files"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(folder, f"{MANIFEST} is no list of files with size and sha256") from error
    if not files or _in_json(files).encode() != (folder / MANIFEST).read_bytes():
        raise DamagedError(folder, f"{MANIFEST} is not as it was written")
    return files


def check_files(folder: Path, below: str = "") -> bool:
    """Check that every file is what was saved. Raises DamagedError for the first that is not.

    False if there is no manifest; files of weights are then checked as far as their own formats allow.
    below: check only this folder of the checkpoint.
    """
    written = read_manifest(folder)
    if written is None:
        check_formats(folder / below)
        return False
    wanted = {name: of_file for name, of_file in written.items() if name.startswith(below)}
    for name, of_file in wanted.items():
        path = folder / name
        if not path.is_file():
            raise DamagedError(folder, f"{name} is missing")
        if path.stat().st_size != of_file.size:
            raise DamagedError(
                folder, f"{name} has {path.stat().st_size:,} bytes, {of_file.size:,} were saved"
            )
    for name, found in measure(folder, wanted).items():
        if found != wanted[name]:
            raise DamagedError(folder, f"{name} is not what was saved (its sha256 is another)")
    for name in names_in(folder / below):
        if name.endswith(READ) and below + name not in written:
            raise DamagedError(
                folder, f"{below}{name} was added, and would be read for what was saved: take it out"
            )
    return True


def check_formats(folder: Path) -> None:
    """Files of weights, by the checks that their formats have. Raises DamagedError.

    torch's are ZIP archives with a CRC of every part; safetensors state their length.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".pt", ".safetensors")]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        problems = list(threads.map(_format_problem, paths))
    for path, problem in zip(paths, problems):
        if problem is not None:
            raise DamagedError(folder, f"{path.relative_to(folder)} is {problem}")


def _format_problem(path: Path) -> str | None:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt"):
                return None
        except SafetensorError as error:
            return f"no whole safetensors file ({error})"
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        return f"no whole file of torch's ({error})"
    return None if part is None else f"not what was saved ({part} in it has another CRC)"


def check_model_files(folder: Path) -> None:
    """Raise DamagedError if a model's folder belongs to a checkpoint and is not what was saved."""
    if (folder.parent / MANIFEST).is_file():
        check_files(folder.parent, f"{folder.name}/")
    elif (folder.parent / "trainer" / "state.pt").is_file():
        print(
            f"{folder.parent} has no {MANIFEST}, as those of earlier versions: "
            "its weights are taken unchecked",
            flush=True,
        )
