"""The memory of a CPU that glibc's heap holds after tensors were freed."""

from __future__ import annotations

import ctypes
import sys
from typing import Any


def glibc() -> Any | None:
    """The C library of this process, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def is_glibc() -> bool:
    """Does a CPU's memory come from glibc's heap?"""
    return glibc() is not None


def release_freed_memory() -> None:
    """Give freed memory back to the system now."""
    library = glibc()
    if library is not None:
        library.malloc_trim(0)
