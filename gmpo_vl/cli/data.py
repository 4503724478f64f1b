"""`gmpo-vl data new | convert | diagrams`. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gmpo_vl.storage.files import can_be_a_path


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option, for argparse: whole numbers from `least` on."""

    def number(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return number


def new_path(text: str) -> Path:
    """The type of an argument, for argparse: where something is to be written."""
    if not can_be_a_path(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no path: it is empty, too long, or has control characters"
        )
    return Path(text)


def add_data_commands(commands: Any) -> None:
    """Register the commands that make data sets with `gmpo-vl data`'s parser."""
    new = commands.add_parser(
        "new", help="write a commented start of a mapping file, or of a Python file, for a data set"
    )
    new.add_argument("name", help="NAME.yaml (or NAME.py) is written here")
    new.add_argument("--source", help="file, folder or hub id whose columns are filled in")
    new.add_argument("--python", action="store_true", help="a Python file, for what a mapping cannot say")
    new.set_defaults(run=run_new)

    convert = commands.add_parser(
        "convert", help="any data set to parquet in EasyR1's columns, by a mapping file or a Python file"
    )
    convert.add_argument("preparation", help="a mapping file (.yaml), or a .py file with rows() and SPLITS")
    convert.add_argument("out", type=new_path, help="folder for SPLIT.parquet and data_card.json")
    convert.add_argument(
        "--source",
        help="read this instead of the source that the mapping names; "
        "a folder for all its splits (X@train, X@test)",
    )
    convert.add_argument(
        "--rows", type=at_least(1), help="only the first rows of every split, to try things out"
    )
    convert.set_defaults(run=run_convert)

    diagrams = commands.add_parser(
        "diagrams", help="write the built-in diagrams as parquet, a file per split"
    )
    diagrams.add_argument("folder", type=new_path, help="where train, validation and test.parquet go")
    diagrams.add_argument("--seed", type=int, default=0, help="another seed gives other pictures (default 0)")
    diagrams.set_defaults(run=run_diagrams)


def run_new(options: argparse.Namespace) -> int:
    import datasets

    from gmpo_vl.data.scaffold import write_start

    datasets.disable_progress_bars()
    path = write_start(options.name, options.source, options.python)
    print(
        f"{path}: edit it, then\ngmpo-vl data convert {path} data/{options.name}"
        + (" --source FOLDER" if options.python else "")
    )
    return 0


def run_convert(options: argparse.Namespace) -> int:
    import datasets

    from gmpo_vl.data.convert import convert, num_rows
    from gmpo_vl.progress import phase_bar

    datasets.disable_progress_bars()
    total = num_rows(options.preparation, options.source, options.rows)
    with phase_bar("rows", total) as advance:
        card = convert(options.preparation, options.out, options.source, options.rows, advance)
    print(card.summary())
    return 0


def run_diagrams(options: argparse.Namespace) -> int:
    from gmpo_vl.tasks.diagrams.data import export

    for path in export(options.folder, seed=options.seed):
        print(path)
    return 0
