"""Benchmarks of pictures from their public columns to EasyR1's, for the protocols of the same names.

    python data_prep/vision_benchmarks.py NAME SOURCE... data/vision      writes data/vision/NAME.parquet

SOURCE is a file (.parquet .jsonl .json .csv .tsv), a folder, or a hub id (MathLLMs/MathVision@test); several
are read in order. Which columns each benchmark has, and where it is published: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gmpo_vl.evaluation.benchmarks import BENCHMARKS, write_benchmark
from gmpo_vl.evaluation.protocols import load_protocol


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=list(BENCHMARKS), metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="the public rows")
    parser.add_argument("out", type=Path, help="folder for NAME.parquet: data/vision, where protocols look")
    parser.add_argument("--images", type=Path, help="where names of pictures begin (beside the file)")
    options = parser.parse_args(arguments)
    try:
        rows = write_benchmark(options.name, options.source, options.out, options.images)
    except ValueError as error:
        parser.exit(2, f"vision_benchmarks: {error}\n")
    expected = load_protocol(options.name).questions
    said = "" if rows == expected else f", the benchmark has {expected:,}"
    print(f"{options.out / options.name}.parquet: {rows:,} questions{said}")


if __name__ == "__main__":
    main()
