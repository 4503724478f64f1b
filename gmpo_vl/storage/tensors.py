"""Files of torch's, read and written with errors that say which file it is and what is wrong with it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from gmpo_vl.storage.files import free_space, in_gib, is_of_a_writer, why_a_writer_stopped
from gmpo_vl.storage.locks import FolderInUse


def read_saved(path: Path, keys: tuple[str, ...] = ()) -> Any:
    """Plain values and tensors of a file; nothing else is unpickled. keys: that its dict must have.

    Raises ValueError naming a file that cannot be read, FileNotFoundError if there is none. The except is
    broad because torch raises all kinds of errors for a damaged file (RuntimeError, EOFError,
    UnpicklingError, ...).
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read: it is damaged, or holds more than values and tensors ({in_short(error)})"
        ) from error
    if keys and not isinstance(found, dict):
        raise ValueError(f"{path} cannot be read: it holds no named values")
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(f"{path} cannot be read: no {missing[0]!r} in it")
    return found


def in_short(error: Exception) -> str:
    """torch's message without its advice."""
    said = " ".join(str(error).split())
    named = re.search(r"(Unsupported|unsupported) .*", said)
    return (named[0] if named else said)[:150]


@contextmanager
def telling_where(folder: Path) -> Iterator[None]:
    """If a folder cannot be written whole, remove it; OSError says the file, the reason and the room left."""
    try:
        yield
    except FolderInUse:  # what lies there is another process's
        raise
    except Exception as error:
        reason = _of_writing(error)
        if reason is None or not folder.is_dir():
            raise
        files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
        size, room = sum(p.stat().st_size for p in files), free_space(folder)
        named = str(getattr(error, "filename", None))
        if not named.startswith(str(folder)):  # none, or what was copied
            named = str(files[-1] if files else folder)
        shutil.rmtree(folder, ignore_errors=True)
        raise OSError(
            f"{named} could not be written: {reason}; {room}. What was there of an unfinished checkpoint, "
            f"{in_gib(size)}, is removed; make room, and run the same command again to go on from "
            "the checkpoint before it"
        ) from error


def _of_writing(error: BaseException | None) -> str | None:
    """Why a file could not be written; None for an error that is about something else."""
    found: str | None = None
    while error is not None:
        brought: BaseException = getattr(error, "cause", None) or error  # a rank's, as Ray brings it
        if isinstance(brought, OSError):
            return brought.strerror or str(brought)
        if isinstance(brought, SafetensorError) or is_of_a_writer(brought):
            found = why_a_writer_stopped(brought)
        error = brought.__cause__ or brought.__context__
    return found
