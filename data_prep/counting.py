"""Counting from pictures whose names hold the answer, as in Rahmanzadehgervi et al. (2024, "blind").

    gmpo-vl data convert data_prep/counting.py data/counting --source FOLDER

FOLDER holds pictures, in subfolders or not: ...numCircles_7..., ...numPentagons_5..., ...gt_2... (crossings
of two lines), ...depth_4... (nested squares), ...grid_5x4... (rows and columns). Other names are left alone.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPLITS = ("train", "test")
TEST_SHARE = 0.2
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

# What a name says, and what is asked about such a picture.
TASKS = (
    (r"numCircles_(\d+)", "How many circles are there?"),
    (r"numPentagons_(\d+)", "How many pentagons are there?"),
    (r"gt_(\d+)", "How often do the two lines cross?"),
    (r"depth_(\d+)", "How many squares are there?"),
    (r"grid_(\d+)x(\d+)", "How many rows and columns does the table have? Answer with (rows,columns)."),
)


def task_of(name: str) -> tuple[str, str] | None:
    """(question, answer) that a file's name holds."""
    for pattern, question in TASKS:
        if found := re.search(rf"{pattern}(?![0-9])", name):
            numbers = found.groups()
            return question, numbers[0] if len(numbers) == 1 else f"({','.join(numbers)})"
    return None


def is_test(picture: bytes) -> bool:
    """By the picture's hash: one that lies in the folder twice is on one side only."""
    return int(hashlib.sha256(picture).hexdigest()[:8], 16) / 2**32 < TEST_SHARE


def rows(source: Path, split: str) -> Iterator[dict[str, Any]]:
    """The pictures of a split, each once, in the order of their paths."""
    seen: set[bytes] = set()
    for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES):
        task = task_of(path.stem)
        if task is None:
            continue
        picture = path.read_bytes()
        digest = hashlib.sha256(picture).digest()
        if digest in seen or is_test(picture) != (split == "test"):
            continue
        seen.add(digest)
        question, answer = task
        yield {
            "images": [picture],
            "problem": f"<image>{question}",
            "answer": answer,
            "id": path.relative_to(source).as_posix()[-200:],
        }
