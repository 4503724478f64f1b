"""What lies in a checkpoint of EasyR1. Imports nothing of it."""

from __future__ import annotations

import re
from pathlib import Path


def shards(folder: Path) -> list[tuple[int, int]]:
    """(world size, rank) of every file of weights in an `actor` folder, in order."""
    names = [
        re.fullmatch(r"model_world_size_(\d+)_rank_(\d+)\.pt", path.name) for path in folder.glob("*.pt")
    ]
    return sorted((int(name[1]), int(name[2])) for name in names if name)
