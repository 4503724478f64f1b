"""SIGKILL at the n-th change of a folder: for the campaign (kill_campaign.py) and for tests.

A change is what leaves the disk different: a file opened for writing, each write (once before it, once after
half of its bytes), a rename, a removal, a new folder. Between two changes a kill leaves what it leaves just
before the second, so that reads and fsync need none of their own. What torch, safetensors and arrow write
from C++ goes through Python's files here.
"""

from __future__ import annotations

import builtins
import io
import mmap
import os
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PATHS = {
    "os.rename": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.mkdir": 1,
    "os.truncate": 1,
    "os.link": 2,
    "os.symlink": 2,
}
_real_open = builtins.open


class Changes:
    """Counts the changes of `folder` by this process and those it forks; the process that makes number
    `kill_at` is killed.
    """

    def __init__(self, folder: Path, kill_at: int = 0):
        self.folder, self.kill_at = f"{os.path.realpath(folder)}/", kill_at
        self._shared = mmap.mmap(-1, 8)

    @property
    def count(self) -> int:
        return struct.unpack("q", self._shared[:8])[0]

    def inside(self, path: Any, folder_descriptor: int = -1) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        base = f"/proc/self/fd/{folder_descriptor}" if folder_descriptor >= 0 else "."
        parent, _name = os.path.split(os.path.join(os.path.realpath(base), os.fsdecode(path)))
        return f"{os.path.realpath(parent)}/".startswith(self.folder)

    def due(self) -> bool:
        """Count one change. Is it the one to be killed at?"""
        number = self.count + 1
        self._shared[:8] = struct.pack("q", number)
        return number == self.kill_at

    def point(self) -> None:
        if self.due():
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """From now on, in this process and its forks, for good."""

        changes = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                changes.point()
                if changes.due():
                    view = memoryview(data).cast("B")
                    super().write(view[: len(view) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().write(data)

        def counted_open(file: Any, mode: str = "r", buffering: int = -1, *text: Any, **more: Any) -> Any:
            if not set(mode) & set("wax+") or not self.inside(file):
                return _real_open(file, mode, buffering, *text, **more)
            raw = Raw(file, mode.replace("b", "").replace("t", ""))
            large = 1 << 26  # a write is what the program hands over at once, or a whole file
            buffered = io.BufferedRandom(raw, large) if "+" in mode else io.BufferedWriter(raw, large)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *text, **more)

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open":
                path, _mode, flags = arguments
                if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) and self.inside(path):
                    self.point()
            elif event in _PATHS:
                folders = [a for a in arguments[_PATHS[event] :] if isinstance(a, int)]
                descriptor = folders[-1] if folders and event != "os.truncate" else -1
                if any(self.inside(path, descriptor) for path in arguments[: _PATHS[event]]):
                    self.point()

        builtins.open = io.open = counted_open
        _through_python()
        sys.addaudithook(audit)


def _through_python() -> None:
    """Whoever writes from C++ or inside the kernel is given Python's way."""
    import pyarrow.parquet as pq
    import safetensors.torch
    import torch
    import transformers.modeling_utils

    shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]
    save, parquet = torch.save, pq.ParquetWriter

    def save_through(value: Any, target: Any, *arguments: Any, **more: Any) -> None:
        if not isinstance(target, str | os.PathLike):
            return save(value, target, *arguments, **more)
        buffer = io.BytesIO()
        save(value, buffer, *arguments, **more)
        _write(target, buffer.getvalue())

    def save_tensors(tensors: Any, target: Any, metadata: Any = None) -> None:
        _write(target, safetensors.torch.save(tensors, metadata))

    class ParquetThrough(parquet):
        def __init__(self, where: Any, *arguments: Any, **more: Any):
            self._through = open(where, "wb")  # noqa: SIM115
            super().__init__(self._through, *arguments, **more)

        def close(self) -> None:
            super().close()
            self._through.close()

    torch.save, pq.ParquetWriter = save_through, ParquetThrough
    safetensors.torch.save_file = transformers.modeling_utils.safe_save_file = save_tensors


def _write(path: Any, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def in_a_fork(work: Callable[[], Any], changes: Changes | None = None, log: Path | None = None) -> int:
    """Run `work` in a fork of this process; returns its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            if log is not None:
                said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(said, 1)
                os.dup2(said, 2)
            if changes is not None:
                changes.watch()
            code = work() or 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
