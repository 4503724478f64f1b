"""`gmpo-vl data check | show`: arguments and commands. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmpo_vl.cli.data import at_least, new_path


def add_check_commands(commands: Any) -> None:
    """Register the commands that look at data with `gmpo-vl data`'s parser."""
    _add_check(commands)
    _add_show(commands)


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="look at every row of a configuration's data as a run will",
        description="Exit code: 0 nothing of the --fail-on level was found, 1 something was, 2 the data "
        "cannot be read at all.",
    )
    _add_config(check)
    check.add_argument(
        "--out",
        type=new_path,
        default=Path("runs/check"),
        help="folder for report.html, check.json, rows.jsonl (runs/check)",
    )
    check.add_argument(
        "--workers", type=at_least(0), help="processes (as many as there are cores, none for a small set)"
    )
    check.add_argument(
        "--fail-on",
        choices=["error", "warning", "never"],
        default="error",
        help="what makes the exit code 1 (error)",
    )
    check.add_argument(
        "--clean", type=Path, metavar="FOLDER", help="write a copy without the rows that have errors"
    )
    check.add_argument(
        "--drop",
        nargs="+",
        default=[],
        metavar="REASON",
        help="with --clean: leave out rows with these warnings as well",
    )
    check.add_argument(
        "--ask-judge",
        type=at_least(0),
        default=0,
        metavar="N",
        help="ask a reward that asks an endpoint about the golds of N rows of each split (0)",
    )
    check.set_defaults(run=run_check)


def _add_show(commands: Any) -> None:
    show = commands.add_parser("show", help="rows exactly as the model sees them, as one page")
    _add_config(show)
    show.add_argument(
        "--out", type=new_path, default=Path("runs/show.html"), help="the page (runs/show.html)"
    )
    show.add_argument(
        "--rows", type=at_least(1), default=24, help="how many, drawn from the whole split (24)"
    )
    show.add_argument("--split", choices=["train", "validation"], default="train", help="default train")
    show.add_argument("--seed", type=int, default=0, help="another seed draws other rows (0)")
    show.add_argument("--ids", nargs="+", default=[], help="these rows instead")
    show.set_defaults(run=run_show)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="a run's YAML file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="keys that replace those of the file")


def run_check(options: argparse.Namespace) -> int:
    from gmpo_vl.preflight.clean import check_folder, write_clean
    from gmpo_vl.preflight.data_check import check_data, summary, write_page
    from gmpo_vl.preflight.findings import NOTES, WARNINGS

    unknown = [reason for reason in options.drop if reason not in (*WARNINGS, *NOTES)]
    if unknown or (options.drop and options.clean is None):
        known = ", ".join((*WARNINGS, *NOTES))
        raise ValueError(f"--drop {' '.join(options.drop)}: give --clean with it, and reasons out of {known}")
    data = replace(_data(options), ask_judge=options.ask_judge)
    if options.clean is not None:
        check_folder(options.clean, data.checkers())
    result = check_data(data, options.out, options.workers, options.drop)
    write_page(result, options.out / "report.html")
    print(summary(result))
    if options.clean is not None:
        for split, (written, dropped) in write_clean(result, options.clean).items():
            print(
                f"{options.clean / split}.parquet: {written:,} rows; {dropped:,} dropped, see dropped.jsonl"
            )
    print(options.out / "report.html")
    failing = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[options.fail_on]
    return 1 if any(result.of_level(level) for level in failing) else 0


def run_show(options: argparse.Namespace) -> int:
    from gmpo_vl.preflight.prompt_gallery import write_gallery

    count = write_gallery(_data(options), options.out, options.split, options.rows, options.seed, options.ids)
    print(f"{options.out}: {count} rows")
    return 0


def _data(options: argparse.Namespace) -> Any:
    import datasets
    import transformers

    from gmpo_vl.config import load_config
    from gmpo_vl.preflight.row_scan import data_to_check

    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    return data_to_check(load_config(options.config, options.overrides))
