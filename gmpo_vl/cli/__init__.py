"""gmpo-vl: the command line. Thin: it parses, calls, prints; what is heavy is imported when it is needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from gmpo_vl import __version__
from gmpo_vl.cli.check import add_check_commands
from gmpo_vl.cli.data import add_data_commands, new_path
from gmpo_vl.cli.demo import add_demo
from gmpo_vl.cli.doctor import add_doctor
from gmpo_vl.cli.evaluate import add_eval, with_default_command
from gmpo_vl.cli.results import add_difficulty
from gmpo_vl.cli.study import add_study
from gmpo_vl.progress import quiet_libraries
from gmpo_vl.storage.locks import IN_USE, FolderInUse
from gmpo_vl.storage.places import in_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what it was asked, 2 with a sentence on stderr when the input was wrong, 75 when another
    process works in the folder."""
    parser = build_parser()
    options = parse(parser, with_default_command(sys.argv[1:] if arguments is None else arguments))
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        if options.traceback:
            raise
        print(f"gmpo-vl: {in_words(error)}", file=sys.stderr)
        return IN_USE if isinstance(error, FolderInUse) else 2
    except MemoryError as error:
        if options.traceback:
            raise
        print(f"gmpo-vl: {error}" if str(error) else "gmpo-vl: there is too little memory", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if options.traceback:
            raise
        print("gmpo-vl: stopped", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells say it


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments, with overrides (a.b=c) taken behind options as well, where argparse knows no place for them."""
    options, extra = parser.parse_known_args(arguments)
    if extra and (not hasattr(options, "overrides") or any(a.startswith("-") or "=" not in a for a in extra)):
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    if extra:
        options.overrides = [*options.overrides, *extra]
    return options


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gmpo-vl", description="Vision-language RL with Geometric-Mean Policy Optimization."
    )
    parser.add_argument("--version", action="version", version=f"gmpo-vl {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error came from")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a model as a configuration says")
    train.add_argument("config", help="a YAML file (configs/ has some)")
    train.add_argument("overrides", nargs="*", metavar="a.b=c", help="keys that replace those of the file")
    train.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan, train nothing"
    )
    train.set_defaults(run=run_train)

    add_eval(commands)

    grade = commands.add_parser(
        "grade", help="verify answers in a file, or check that golds verify against themselves"
    )
    grade.add_argument(
        "pairs", nargs="?", help="JSON lines with `gold` and `response` (and `id`, `benchmark`)"
    )
    grade.add_argument("--out", type=new_path, help="where the verdicts go, one a line in the same order")
    grade.add_argument("--profile", choices=["strict", "paper"], default="strict", help="default strict")
    grade.add_argument(
        "--workers", type=int, default=0, help="processes for undecided answers (default 0: none)"
    )
    grade.add_argument(
        "--self-check", metavar="DATASET", help="list golds that do not verify against themselves"
    )
    grade.set_defaults(run=run_grade)

    data = commands.add_parser("data", help="prepare and inspect data sets")
    data_commands = data.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_difficulty(data_commands)
    add_data_commands(data_commands)
    add_check_commands(data_commands)

    add_doctor(commands)
    add_demo(commands)

    export = commands.add_parser("export", help="an EasyR1 checkpoint as a Hugging Face folder, checked")
    export.add_argument("checkpoint", help="for example runs/NAME/checkpoints/step_000100")
    export.add_argument("folder", type=new_path, help="where the model goes; must not exist")
    export.add_argument("--adapter", action="store_true", help="the LoRA adapter alone (default: merged)")
    export.set_defaults(run=run_export)

    add_study(commands, main)

    report = commands.add_parser("report", help="write a run's page, report.html")
    report.add_argument("run_folder", help="for example runs/demo")
    report.set_defaults(run=run_report)

    return parser


def run_grade(options: argparse.Namespace) -> int:
    from gmpo_vl.verify import grade, self_check

    if options.self_check:
        if options.pairs or options.out:
            raise ValueError(
                "grade --self-check DATASET asks about a data set's own answers: no PAIRS.jsonl and no --out with it"
            )
        failures = self_check.self_check(options.self_check, options.profile)
        print("\n".join([*map(str, failures), self_check.summary(failures)]))
        return 1 if failures else 0
    if not options.pairs or not options.out:
        raise ValueError("grade needs PAIRS.jsonl and --out VERDICTS.jsonl, or --self-check DATASET")
    counts = grade.grade_file(
        options.pairs, options.out, options.profile, options.workers, partial(print, file=sys.stderr)
    )
    print(grade.summary(counts))
    return 0


def run_train(options: argparse.Namespace) -> int:
    from gmpo_vl.config import load_config, notices

    quiet_libraries()
    config = load_config(options.config, options.overrides)
    if options.dry_run:
        plan = "gmpo_vl.preflight.plan_easyr1" if config.engine == "easyr1" else "gmpo_vl.preflight.plan"
        print(import_module(plan).dry_run(config))
        return 0
    if config.engine == "easyr1":
        from gmpo_vl.engines.easyr1.compatibility import require_easyr1

        require_easyr1()
        from gmpo_vl.engines.easyr1.driver import train
    else:
        from gmpo_vl.engines.local.train import train

    for notice in notices(config):
        print(notice)
    train(config)
    return 0


def run_export(options: argparse.Namespace) -> int:
    from gmpo_vl.engines.easyr1.export import export

    quiet_libraries()
    gaps = export(Path(options.checkpoint), Path(options.folder), options.adapter)
    print(
        f"{options.folder}: log-probs within {gaps.largest:.1e} nats of the trained model's ({gaps.rms:.1e} root mean square)"
    )
    return 0


def run_report(options: argparse.Namespace) -> int:
    from gmpo_vl.report import write_report

    print(write_report(options.run_folder))
    return 0
