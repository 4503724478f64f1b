"""Large tensors on a CPU: keep freed memory.

glibc takes every block of more than 32 MB from the kernel and returns it when it is freed. A pass over some
thousand tokens makes hundreds of such tensors, and the kernel fills each with zeros, page by page: up to half
of a pass's time. A process that keeps freed memory saves this time, and holds its peak until it ends or calls
`release_freed_memory`.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = -1  # any other threshold is a C int, and memory above 2 GB would be returned all the same


def _glibc() -> Any | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def is_glibc() -> bool:
    """Does a CPU's memory come from glibc's heap?"""
    return _glibc() is not None


def keep_freed_memory() -> bool:
    """For the rest of this process; False where the C library is not glibc, and nothing was changed."""
    library = _glibc()
    if library is None:
        return False
    return bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, _NEVER))


def release_freed_memory() -> None:
    """Give freed memory back to the system now."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)
