"""`gmpo-vl study`: arguments and command. Nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gmpo_vl.cli.data import at_least, new_path


def add_study(commands: Any, command: Callable[[list[str]], int]) -> None:
    """Register `study` with gmpo-vl's parser. command: gmpo-vl itself, which a study's runs call."""
    study = commands.add_parser(
        "study",
        help="compare methods: rates tuned alike, then frozen, then fresh seeds",
        description="The same command goes on with a study that was stopped, and tries failed runs again. "
        "Exit code: 0 every run ended well, 1 one did not, 2 the file cannot be run, 130 stopped.",
    )
    study.add_argument("file", help="a study's YAML file (configs/study/ has one)")
    study.add_argument("--out", type=new_path, help="the study's folder (runs/studies/NAME)")
    study.add_argument("--workers", type=at_least(1), default=1, help="runs at once (1)")
    study.add_argument("--dry-run", action="store_true", help="check the file, print the plan, run nothing")
    study.set_defaults(run=run_study_command, command=command)


def run_study_command(options: argparse.Namespace) -> int:
    from gmpo_vl.study.file import read_study
    from gmpo_vl.study.plan import describe, make_plan
    from gmpo_vl.study.protocol import open_folder, run_study

    study = read_study(options.file)
    text = Path(options.file).read_text(encoding="utf-8")
    plan = make_plan(study, text)
    path = options.out or Path("runs/studies") / study.name
    print(f"{describe(study, plan)}\nfolder      {path}", flush=True)
    if options.dry_run:
        return 0
    folder = open_folder(path, text, plan)
    try:
        results = run_study(
            study, folder, options.workers, lambda line: print(line, flush=True), options.command
        )
    except KeyboardInterrupt:
        print("stopped; the same command goes on", flush=True)
        return 130
    failed = [run for run in results["runs"] if run["state"] == "failed"]
    print(f"{len(failed)} runs failed\n" * bool(failed) + str(folder.page_file))
    return 1 if failed else 0
