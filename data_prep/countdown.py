"""CountDown puzzles made here, all solvable: as in the public set, or small ones for tiny models.

    python data_prep/countdown.py data/countdown          8,192 train, 512 validation, 1,024 test
    python data_prep/countdown.py data/countdown_tiny --small     three numbers up to 10

The public set itself (Jiayi-Pan/Countdown-Tasks-3to4) goes through data_prep/countdown.yaml. Splits share no
puzzle, whatever the seed: a hash of a puzzle's numbers and target gives its split (see
gmpo_vl/tasks/countdown/data.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gmpo_vl.tasks.countdown.data import PUBLIC, TINY, Split, export


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for train, validation and test.parquet")
    parser.add_argument("--small", action="store_true", help="three numbers up to 10, targets up to 60")
    parser.add_argument("--train", type=int, help="rows (default 8192; small: 640)")
    parser.add_argument("--validation", type=int, help="rows (default 512; small: 128)")
    parser.add_argument("--test", type=int, help="rows (default 1024; small: 384)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other puzzles (default 0)")
    options = parser.parse_args(arguments)
    usual = (640, 128, 384) if options.small else (8192, 512, 1024)
    splits: tuple[Split, ...] = ("train", "validation", "test")
    rows = {
        split: default if getattr(options, split) is None else getattr(options, split)
        for split, default in zip(splits, usual)
    }
    try:
        for path in export(options.out, rows, TINY if options.small else PUBLIC, options.seed):
            print(path)
    except ValueError as error:
        parser.exit(2, f"countdown: {error}\n")


if __name__ == "__main__":
    main()
