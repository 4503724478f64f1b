"""Freed memory of a CPU stays with the process, above 2 GB too; in a process of its own, since it cannot be
undone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gmpo_vl.models.allocator import is_glibc

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# 2.5 GB, of which one page in each MB is written: 10 MB.
RESIDENT = """
import sys, psutil, torch
sys.path.insert(0, sys.argv[2])
from measure import keep_freed_memory, release_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = psutil.Process().memory_info().rss
blocks = [torch.empty(2**29, dtype=torch.uint8) for _ in range(5)]
for block in blocks:
    block[:: 2**20] = 1
del block, blocks
print(psutil.Process().memory_info().rss - before)
release_freed_memory()
print(psutil.Process().memory_info().rss - before)
"""


def megabytes_after_freeing_and_release(how: str) -> list[float]:
    command = [sys.executable, "-c", RESIDENT, how, str(BENCHMARKS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) / 2**20 for line in done.stdout.split()]


@pytest.mark.skipif(not is_glibc(), reason="glibc's allocator")
def test_what_was_freed_stays_until_it_is_released() -> None:
    kept, released = megabytes_after_freeing_and_release("keep")
    left, _ = megabytes_after_freeing_and_release("leave")
    assert kept > 8
    assert max(released, left) < 4
