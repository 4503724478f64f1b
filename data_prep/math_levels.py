"""MATH (Hendrycks et al. 2021), levels 3 to 5 without the 500 problems of MATH500: for Dr.GRPO and GMPO.

    gmpo-vl data convert data_prep/math_levels.py data/math_lvl3to5 --source FOLDER

FOLDER holds MATH (train and test, 12,500 problems: problem, level, and solution or answer) as parquet, arrow,
jsonl or json, and math500.parquet as data_prep/text_benchmarks.py writes it (or any table called math500 with
a column problem). The answer is the last box of the solution. The paper names 8,523 problems; which ones it
left out besides MATH500 is not published.

About 3% of them become `validation`, by a hash of the problem, so that choosing a checkpoint looks at no
benchmark.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gmpo_vl.data.rows import DataError, RowError
from gmpo_vl.data.sources import SUFFIXES, Table, open_tables
from gmpo_vl.verify.extract import last_box

SPLITS = ("train", "validation")
VALIDATION_SHARE = 0.03
LEVELS = (3, 4, 5)


def level_of(row: dict[str, Any]) -> int | None:
    """3 of 3, "3" and "Level 3"; None where the row says none."""
    found = re.search(r"\d", str(row.get("level")))
    return int(found[0]) if found else None


def answer_of(row: dict[str, Any]) -> str | None:
    return row["answer"] if row.get("answer") else last_box(row["solution"]).text


def key_of(row: dict[str, Any]) -> str:
    """The problem without white space: the two sets break lines differently."""
    return "".join(row["problem"].split())


def split_of(key: str) -> str:
    """By a hash of the problem: it stays where it is whatever else the folder holds."""
    share = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    return "validation" if share < VALIDATION_SHARE else "train"


def tables(source: Path, held_out: bool) -> list[Table]:
    """The tables of the folder: MATH500 (held_out), or all others."""
    files = sorted(p for p in source.rglob("*") if p.suffix in SUFFIXES)
    chosen = [str(p) for p in files if (p.stem.lower() == "math500") == held_out]
    if not chosen:
        raise DataError(f"{source}: no table {'called math500' if held_out else 'of MATH'} in this folder")
    return open_tables(chosen)


def rows(source: Path, split: str) -> Iterator[dict[str, Any]]:
    """Every problem of levels 3 to 5 of this split that is not in MATH500, once."""
    seen = {key_of(row) for table in tables(source, held_out=True) for row in readable(table)}
    for table in tables(source, held_out=False):
        for row in readable(table):
            key = key_of(row)
            if level_of(row) in LEVELS and key not in seen and split_of(key) == split:
                seen.add(key)
                yield {"problem": row["problem"], "answer": answer_of(row)}


def readable(table: Table) -> Iterator[Any]:
    for row in table.rows.scan(["problem", "answer", "solution", "level"]):
        if isinstance(row, RowError):
            raise DataError(f"{table.name}: {row}")
        yield row
