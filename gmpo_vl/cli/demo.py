"""`gmpo-vl demo`: arguments and command. Nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
from typing import Any

from gmpo_vl.cli.data import at_least


def add_demo(commands: Any) -> None:
    """Register `demo` with gmpo-vl's parser."""
    demo = commands.add_parser(
        "demo",
        help="train a tiny model on this machine's CPU in minutes, and see what it learned",
        description="A tiny Qwen2.5-VL answers questions about diagrams, trains with GMPO, and answers them "
        "again: three to five minutes. The page is runs/demo/report.html (of the others "
        "runs/demo_countdown/report.html and runs/demo_agent/report.html). Each demo shows a whole run: what "
        "the last one left in its folder goes.",
    )
    which = demo.add_mutually_exclusive_group()
    which.add_argument(
        "--countdown", action="store_true", help="a tiny mixture of experts on CountDown puzzles instead"
    )
    which.add_argument(
        "--agent", action="store_true", help="a game of many turns instead, which the model sees as pictures"
    )
    demo.add_argument("--config", help="a YAML file in the place of the demo's own settings")
    demo.add_argument(
        "--test-problems",
        type=at_least(1),
        help="problems of the test split (512; with --countdown 384; levels with --agent 256)",
    )
    demo.add_argument("overrides", nargs="*", metavar="a.b=c", help="keys that replace those of the file")
    demo.set_defaults(run=run_demo)


def run_demo(options: argparse.Namespace) -> int:
    from gmpo_vl.demo import agent, countdown, diagrams

    demo = countdown if options.countdown else agent if options.agent else diagrams
    demo.run(options.config or demo.CONFIG, options.test_problems or demo.TEST_PROBLEMS, options.overrides)
    return 0
