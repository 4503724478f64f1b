"""gmpo-vl: the command line. Every command registers itself; heavy imports wait until it runs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gmpo_vl import __version__
from gmpo_vl.cli.check import add_check_commands
from gmpo_vl.cli.data import add_data_commands
from gmpo_vl.cli.demo import add_demo
from gmpo_vl.cli.doctor import add_doctor
from gmpo_vl.cli.evaluate import COMMANDS as OF_EVAL
from gmpo_vl.cli.evaluate import add_eval, with_default_command
from gmpo_vl.cli.finished import add_difficulty, add_grade
from gmpo_vl.cli.missing import missing
from gmpo_vl.cli.rewards import add_rewards
from gmpo_vl.cli.training import add_export, add_report, add_study, add_train
from gmpo_vl.storage.locks import IN_USE, FolderInUse
from gmpo_vl.storage.names import nearest
from gmpo_vl.storage.places import in_words


class Parser(argparse.ArgumentParser):
    """Names the nearest command or option where one is misspelt. Its subcommands are of this class, too."""

    def error(self, message: str) -> NoReturn:
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message):
            message += nearest(found[1], re.findall(r"[\w-]+", found[2]))
        super().error(message)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        """What is left over is no option of this command, and none of a command's below it."""
        known, extra = super().parse_known_args(args, namespace)
        known.prog = getattr(known, "prog", self.prog)  # the innermost parser's comes first
        if unknown := next((text for text in extra if text.startswith("--")), None):
            option = unknown.partition("=")[0]
            options = re.findall(r"--[\w-]+", self.format_help())
            self.error(f"there is no option {option}{nearest(option, options)}")
        return known, extra


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. 0: it did what it was asked; 2: the input was wrong, or an extra is missing, and a
    sentence on stderr says how; 75: another process works in the folder; 130: stopped."""
    parser = build_parser()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["eval"] and (near := _nearest_of_eval(arguments[1:2])):
        parser.error(f"eval has no command {arguments[1]!r} and there is no such model{near}")
    options = parse(parser, with_default_command(arguments))
    try:
        return options.run(options)
    except ModuleNotFoundError as error:
        said = missing(options.prog, error.name)
        if options.traceback or said is None:
            raise
        print(said, file=sys.stderr)
        return 2
    except (ValueError, OSError, MemoryError, KeyboardInterrupt) as error:
        if options.traceback:
            raise
        code, said = _ending(error)
        print(f"gmpo-vl: {said}", file=sys.stderr)
        return code


def _nearest_of_eval(words: Sequence[str]) -> str:
    """What `eval` may have been meant to do: its first word is a command or a model."""
    is_model = not words or words[0] in OF_EVAL or "/" in words[0] or Path(words[0]).exists()
    return "" if is_model else nearest(words[0], OF_EVAL, cutoff=0.8)


def _ending(error: BaseException) -> tuple[int, str]:
    """The exit code, and what is said."""
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped"  # 128 + SIGINT, as shells say it
    if isinstance(error, MemoryError):
        return 2, str(error) or "there is too little memory"
    return IN_USE if isinstance(error, FolderInUse) else 2, in_words(error)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments. Overrides (a.b=c) may stand behind options, where argparse has no place for them."""
    options, extra = parser.parse_known_args(arguments)
    if extra and (not hasattr(options, "overrides") or any(a.startswith("-") or "=" not in a for a in extra)):
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    if extra:
        options.overrides = [*options.overrides, *extra]
    return options


def build_parser() -> argparse.ArgumentParser:
    """Commands stand in --help in this order."""
    parser = Parser(prog="gmpo-vl", description="Vision-language RL with Geometric-Mean Policy Optimization.")
    parser.add_argument("--version", action="version", version=f"gmpo-vl {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error came from")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_train(commands)
    add_eval(commands)
    add_grade(commands)
    data = commands.add_parser("data", help="prepare and inspect data sets")
    parts = data.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_difficulty(parts)
    add_data_commands(parts)
    add_check_commands(parts)
    add_doctor(commands)
    add_rewards(commands)
    add_demo(commands)
    add_export(commands)
    add_study(commands, main)
    add_report(commands)
    return parser
