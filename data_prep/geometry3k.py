"""Geometry3K (Lu et al. 2021) from the InterGPS release to EasyR1's columns, as hiyouga/geometry3k.

    python data_prep/geometry3k.py RELEASE OUT      writes OUT/{train,validation,test}.parquet

RELEASE is its data/geometry3k: train/, val/, test/ of <number>/{data.json, img_diagram.png}, or train.zip,
val.zip, test.zip. images = [img_diagram.png], problem = "<image>" + annotat_text, answer = the choice that
the answer letter names, id = the number. Complete: 2,101 / 300 / 601 problems.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gmpo_vl.data.writing import write_parquet

SPLITS = {"train": "train", "val": "validation", "test": "test"}


def open_split(release: Path, split: str) -> zipfile.Path | Path:
    """The folder that holds a split's numbered problems, in a directory or inside its zip file."""
    if (release / split).is_dir():
        return release / split
    archive = release / f"{split}.zip"
    if not archive.is_file():
        raise ValueError(
            f"{release}: neither a folder {split}/ nor a file {split}.zip; give InterGPS's data/geometry3k"
        )
    try:
        root = zipfile.Path(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive}: not a complete zip file; download it again") from error
    return root / split if (root / split).is_dir() else root


def read_row(problem: zipfile.Path | Path) -> dict[str, Any]:
    """One problem's folder as a row. Raises ValueError that names the folder."""
    try:
        record = json.loads((problem / "data.json").read_text(encoding="utf-8"))
        return {
            "images": [(problem / "img_diagram.png").read_bytes()],
            "problem": "<image>" + record["annotat_text"],
            "answer": str(record["choices"][list("ABCD").index(record["answer"])]),
            "id": int(problem.name),
        }
    except (OSError, KeyError, IndexError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{problem}: not a Geometry3K problem: {type(error).__name__}: {error}") from error


def read_split(release: Path, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a split in the order of their numbers."""
    problems = [path for path in open_split(release, split).iterdir() if path.name.isdigit()]
    if not problems:
        raise ValueError(f"{release}: {split} holds no numbered problem")
    for problem in sorted(problems, key=lambda path: int(path.name)):
        yield read_row(problem)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("release", type=Path, help="InterGPS's data/geometry3k (folders or zip files)")
    parser.add_argument("out", type=Path, help="folder for the three parquet files")
    options = parser.parse_args(arguments)
    try:
        for split, name in SPLITS.items():
            path = options.out / f"{name}.parquet"
            rows = write_parquet(path, read_split(options.release, split), {"id": "int32"})
            print(f"{path}: {rows:,} problems")
    except ValueError as error:
        parser.exit(2, f"geometry3k: {error}\n")


if __name__ == "__main__":
    main()
