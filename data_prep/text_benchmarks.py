"""The paper's five text benchmarks to one schema, a parquet file each.

    python data_prep/text_benchmarks.py SUITE OUT      writes OUT/NAME.parquet, NAMES as in BENCHMARKS

SUITE is the `evaluation_suite` of Dr.GRPO and GMPO (sail-sg/understand-r1-zero, callsys/GMPO): a folder of
`datasets.save_to_disk`, or of aime.parquet, amc.parquet, ... (.arrow, .jsonl, .json as well) with the columns
problem and answer. The five differ: AMC's answers are floats (142.0 becomes 142), Minerva's are lists of
alternatives with line ends, OlympiadBench's lists of one. Columns out: images (empty), problem, answer, id,
benchmark.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import Columns, DataError
from gmpo_vl.data.sources import SUFFIXES
from gmpo_vl.data.writing import write_parquet

# Name in the suite, and here; the numbers of questions are the paper's.
BENCHMARKS = {
    "aime": ("aime24", 30),
    "amc": ("amc", 83),
    "math": ("math500", 500),
    "minerva": ("minerva", 272),
    "olympiad_bench": ("olympiad_bench", 675),
}


def source(suite: Path, split: str) -> str:
    """Where a benchmark lies in the suite."""
    if (suite / "dataset_dict.json").is_file():
        return f"{suite}@{split}"
    for suffix in SUFFIXES:
        if (suite / f"{split}{suffix}").is_file():
            return str(suite / f"{split}{suffix}")
    raise DataError(
        f"{suite}: neither a folder of datasets.save_to_disk nor one with a file "
        f"{split}{{{','.join(SUFFIXES)}}}"
    )


def read_rows(suite: Path, split: str) -> Iterator[dict[str, Any]]:
    """A benchmark's rows in their order; ids are its name and the row's number."""
    name, _ = BENCHMARKS[split]
    examples = load_examples(source(suite, split), Columns(id_key=None))
    for number, example in enumerate(examples):
        yield {
            "images": [],
            "problem": example.problem,
            "answer": example.answer,
            "id": f"{name}-{number:03d}",
            "benchmark": name,
        }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", type=Path, help="the evaluation_suite folder")
    parser.add_argument("out", type=Path, help="folder for the five parquet files")
    options = parser.parse_args(arguments)
    try:
        for split, (name, expected) in BENCHMARKS.items():
            path = options.out / f"{name}.parquet"
            rows = write_parquet(
                path, read_rows(options.suite, split), {"id": "string", "benchmark": "string"}
            )
            print(f"{path}: {rows} questions" + ("" if rows == expected else f", the paper has {expected}"))
    except ValueError as error:
        parser.exit(2, f"text_benchmarks: {error}\n")


if __name__ == "__main__":
    main()
