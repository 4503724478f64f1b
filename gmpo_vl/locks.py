"""One process at a time in a run's folder: a lock that the kernel holds, so that a killed process leaves none behind."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from gmpo_vl.files import naming

IN_USE = 75  # exit code: EX_TEMPFAIL, "try again later"

_held: set[int] = set()  # descriptors of this process's locks


class FolderInUse(BlockingIOError):
    """Another process holds the folder's lock."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold FOLDER/lock while the block runs. The folder is made where there is none.

    Raises FolderInUse, which names the process that holds it. A file system without locks is no reason to stop: a line says
    that nothing keeps others out, and the block runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    _held.add(descriptor)
    try:
        _take(descriptor, path)
        yield
    finally:
        _close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 500, 0).decode(errors="replace").strip() or "another process"
        raise FolderInUse(
            f"{path.parent} is in use by {holder}: wait for it or stop it; another folder "
            "(trainer.experiment_name, trainer.save_checkpoint_path) is free"
        ) from None
    except OSError as error:
        print(
            f"WARNING: {path} cannot be locked ({error.strerror}): nothing keeps a second run out of this folder",
            flush=True,
        )
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with naming(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)


def _close(descriptor: int) -> None:
    """Unlocks, where no other process has the same open file."""
    if descriptor in _held:
        _held.remove(descriptor)
        os.close(descriptor)


def _close_in_child() -> None:
    for descriptor in tuple(_held):
        _close(descriptor)


# A forked child has the same open file, and would hold the lock after its parent was killed. Started programs have none of it.
os.register_at_fork(after_in_child=_close_in_child)
