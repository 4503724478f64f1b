"""Seconds and peak memory of a function, and an allocator that keeps freed memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gmpo_vl.models.allocator import glibc, release_freed_memory

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = -1  # any other threshold is a C int, and memory above 2 GB would be returned all the same


def keep_freed_memory() -> bool:
    """Keep freed memory for the rest of this process, on a CPU; False where the C library is not glibc.

    glibc takes every block of more than 32 MB from the kernel and returns it when it is freed. A pass over
    some thousand tokens makes hundreds of such tensors, and the kernel fills each with zeros, page by page:
    up to half of a pass's time. A process that keeps freed memory saves this time, and holds its peak until
    it ends or calls `release_freed_memory`.
    """
    library = glibc()
    if library is None:
        return False
    return bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, _NEVER))


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """CPU seconds of this process on a CPU (other processes on the machine do not count), wall seconds on a
    GPU.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    run()
    return time.process_time() - start


def peak_memory_of(run: Callable[[], object], device: torch.device) -> float:
    """Bytes held at the peak above what was held before.

    On a CPU: resident memory, and Linux only (0 elsewhere).
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        run()
        return 0.0
    release_freed_memory()
    before = _bytes_of(status, "VmRSS")
    reset.write_text("5")  # the kernel's own high-water mark starts again
    run()
    return _bytes_of(status, "VmHWM") - before


def _bytes_of(status: Path, name: str) -> float:
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024.0
