"""One process at a time in a run's folder. The kernel holds the lock, so a killed process leaves none."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from gmpo_vl.storage.files import naming
from gmpo_vl.storage.places import in_words, make_folder

IN_USE = 75  # exit code: EX_TEMPFAIL, "try again later"
OF_A_RUN = "another folder (trainer.experiment_name, trainer.save_checkpoint_path) is free"
OF_AN_EVALUATION = "another --out is free"

_locks: list[_Lock] = []  # of this process


class FolderInUse(BlockingIOError):
    """Another process holds the folder's lock."""


@contextmanager
def locked(folder: Path, way_out: str = OF_A_RUN, shared: bool = False) -> Iterator[None]:
    """Hold FOLDER/lock while the block runs. The folder is made if there is none, and removed again if the
    block fails before anything was written there.

    way_out: what else the user can do. shared: hold it together with others that share it, but not beside an
        exclusive
    holder. Raises FolderInUse, which names the holding process. If the file system has no locks, a warning
    says so and the block runs.
    """
    made = not folder.exists()
    make_folder(folder)
    lock = _Lock(folder, way_out, shared)
    _locks.append(lock)
    try:
        lock.take()
        yield
    except BaseException:
        if made and lock.is_here():
            _remove_empty(folder)
        raise
    finally:
        lock.release()


def _remove_empty(folder: Path) -> None:
    """Remove a folder with nothing in it but its lock and empty folders; any other stays as it is."""
    inside = [path for path in folder.iterdir() if path.name != "lock"]
    if all(path.is_dir() and not any(path.iterdir()) for path in inside):
        for path in inside:
            path.rmdir()
        (folder / "lock").unlink(missing_ok=True)
        folder.rmdir()


def check_lock(folder: Path) -> None:
    """Is the folder that this process has locked still its own? Called before anything is written there.

    Raises FolderInUse if the folder or its lock was replaced meanwhile. A deleted lock is made again.
    """
    for lock in tuple(_locks):
        if lock.folder == folder.absolute():
            lock.check()


def try_lock(descriptor: int, shared: bool = False) -> str | None:
    """Lock an open file or folder. Returns why the system cannot, or None. BlockingIOError: it is held."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        return error.strerror
    return None


class _Lock:
    """Locks the file `lock` and the folder itself, so deleting the file lets nobody in.

    On a network's disk only this machine can know of a folder's lock. Processes elsewhere are told by the
    file's inode.
    """

    def __init__(self, folder: Path, way_out: str, shared: bool):
        self.folder, self.path = folder.absolute(), folder.absolute() / "lock"
        self.way_out, self.shared = way_out, shared
        self.of_folder, self.of_file = -1, -1  # descriptors
        self.held = False
        self.checking = threading.Lock()

    def take(self) -> None:
        self.of_folder = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        self._flock(self.of_folder)
        self._take_file()

    def _take_file(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        while not self.held:
            try:
                self.of_file = os.open(self.path, flags, 0o666)
            except OSError as error:
                raise type(error)(in_words(error)) from error
            problem = self._flock(self.of_file)
            self.held = _is(self.of_file, os.lstat, self.path)
            if not self.held:  # it was deleted before it was locked
                self._close_file()
            elif problem is not None:
                print(
                    f"WARNING: {self.path} cannot be locked ({problem}): "
                    "nothing keeps a second run out of this folder",
                    flush=True,
                )
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        who = f"process {os.getpid()} on {socket.gethostname()} since {since}"
        if self.shared:
            who = f"processes that share it, the last to come {who}"
        with naming(self.path):
            os.ftruncate(self.of_file, 0)
            os.pwrite(self.of_file, f"{who}\n".encode(), 0)

    def _flock(self, descriptor: int) -> str | None:
        """Why the file system cannot lock it; None where it is locked."""
        try:
            return try_lock(descriptor, self.shared)
        except BlockingIOError:
            raise FolderInUse(
                f"{self.folder} is in use by {self._holder()}: wait for it or stop it; {self.way_out}"
            ) from None

    def _holder(self) -> str:
        try:
            return self.path.read_bytes()[:500].decode(errors="replace").strip() or "another process"
        except OSError:
            return "another process"

    def is_here(self) -> bool:
        """Is the folder that was locked still under its name?"""
        return self.held and _is(self.of_folder, os.stat, self.folder)

    def check(self) -> None:
        with self.checking:  # threads store pictures
            if not _is(self.of_folder, os.stat, self.folder):
                raise FolderInUse(
                    f"{self.folder} is no longer the folder that this process works in: it was moved or "
                    "deleted. This process stops, before it writes into another one"
                )
            if _is(self.of_file, os.lstat, self.path):
                return
            if self.path.is_dir():
                raise FolderInUse(
                    f"{self.path} is a folder now, where this process had its lock: move it away. "
                    "This process stops; the same command goes on"
                )
            if os.path.lexists(self.path):
                raise FolderInUse(
                    f"{self.folder} is in use by {self._holder()} as well: its file `lock` is another "
                    "than this process has locked. This process stops, before the two write over each other"
                )
            self._close_file()
            self._take_file()

    def release(self) -> None:
        """Unlock. The file stays, empty."""
        if self not in _locks:  # in a forked child, which has closed its copies
            return
        if self.held and not self.shared:
            os.ftruncate(self.of_file, 0)
        self.close()

    def close(self) -> None:
        _locks.remove(self)
        self._close_file()
        if self.of_folder >= 0:
            os.close(self.of_folder)

    def _close_file(self) -> None:
        self.held = False
        if self.of_file >= 0:
            os.close(self.of_file)
            self.of_file = -1


def _is(descriptor: int, look_at: Callable[[Path], os.stat_result], path: Path) -> bool:
    """Does the path still name what is open?"""
    try:
        return os.path.samestat(os.fstat(descriptor), look_at(path))
    except OSError:  # nothing stands there
        return False


def _close_in_child() -> None:
    for lock in tuple(_locks):
        lock.close()


# A forked child has the same open files, and would keep a killed parent's lock. Started programs have none.
os.register_at_fork(after_in_child=_close_in_child)
