"""`gmpo-vl doctor`: arguments and command. Part of the command line: the one place here that knows engines."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from gmpo_vl.cli.data import new_path
from gmpo_vl.processes import command_of
from gmpo_vl.progress import quiet_libraries


def add_doctor(commands: Any) -> None:
    """Register `doctor` with the command line's parser."""
    parser = commands.add_parser(
        "doctor",
        help="everything that can be known before a run: model, data, memory, disk, reward",
        description="Exit code: 0 when nothing stands in the way, 1 when something does, 2 when the configuration is refused.",
    )
    parser.add_argument("config", help="a run's YAML file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="keys that replace those of the file")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="also take three steps at worst-case lengths, in a process of its own",
    )
    parser.add_argument(
        "--out",
        type=new_path,
        default=Path("runs/doctor"),
        help="folder for doctor.json and the rows' findings (runs/doctor)",
    )
    parser.set_defaults(run=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    from gmpo_vl.config import load_config
    from gmpo_vl.data.writing import make_output_folder
    from gmpo_vl.preflight.doctor import Examination, examine
    from gmpo_vl.preflight.findings import Finding, count_line, lines_of
    from gmpo_vl.storage.files import write_json

    quiet_libraries()
    config = load_config(options.config, options.overrides)
    make_output_folder(options.out)
    findings: list[Finding] = []

    def tell(found: Iterator[Finding]) -> None:
        for finding in found:
            print("\n".join(lines_of(finding)), flush=True)
            findings.append(finding)

    tell(examine(Examination(config, options.out, partial(_limits, config), _refusals(config))))
    if options.rehearse:
        stands_in_the_way = any(finding.level == "error" for finding in findings)
        tell(_not_rehearsed() if stands_in_the_way else _rehearse(config, options))
    write_json(options.out / "doctor.json", [asdict(finding) for finding in findings])
    print(count_line(findings))
    return 1 if any(finding.level == "error" for finding in findings) else 0


def _limits(config: Any, size: Any, longest: Any) -> tuple[Any, Any, Any]:
    """The configuration as the run will fit it to memory, and what a forward may hold, without and with a backward."""
    from gmpo_vl.sizing.fitting import fitting
    from gmpo_vl.sizing.limits import limits_for

    fitted = fitting(config, size, longest)
    actor = fitted.config.worker.actor
    sizes = (actor.micro_batch_size_per_device_for_experience, actor.micro_batch_size_per_device_for_update)
    shared = actor.share_prefix != "never"
    score, update = (limits_for(size.config, fitted.config, shared, rollouts) for rollouts in sizes)
    return fitted, score, update


def _refusals(config: Any) -> list[Any]:
    """What engine easyr1 itself refuses; engine local's refusals end the reading of the configuration."""
    from gmpo_vl.config import ConfigError

    if config.engine != "easyr1":
        return []
    from gmpo_vl.engines.easyr1.limits import check, check_model
    from gmpo_vl.preflight.findings import Finding
    from gmpo_vl.setup import configured_model

    try:
        check(config)
        try:
            model = configured_model(config)
        except (ValueError, OSError):
            return []  # that the model cannot be had is said by the checks of the model
        check_model(config, model)
    except ConfigError as error:
        change = "change it: engine easyr1 refuses this when it starts"
        return [Finding("error", "engine", line, "", change) for line in str(error).splitlines()]
    return []


def _not_rehearsed() -> Iterator[Any]:
    from gmpo_vl.preflight.findings import Finding

    yield Finding("note", "rehearsal", "not tried: the errors above stand in its way")


def _rehearse(config: Any, options: argparse.Namespace) -> Iterator[Any]:
    """Three steps in a process of their own: if the system ends it for its memory, the doctor can still say so."""
    from gmpo_vl.preflight.findings import Finding
    from gmpo_vl.sizing.memory import gib

    if config.engine != "local":
        yield Finding(
            "note",
            "rehearsal",
            "only engine local is rehearsed; recipes/ say how to try easyr1 for a few steps",
        )
        return
    command = command_of("gmpo_vl.preflight.rehearsal", options.config, *options.overrides)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:
        yield Finding(
            "error",
            "rehearsal",
            "the system ended it: no memory left",
            "",
            "see the memory estimate's parts, the largest first",
        )
        return
    if done.returncode != 0:
        yield Finding(
            "error",
            "rehearsal",
            done.stderr.strip()[-2000:] or f"exit code {done.returncode}",
            "",
            "a run would end like this",
        )
        return
    found = json.loads(done.stdout.splitlines()[-1])
    phases = ", ".join(f"{name} {gib(count)}" for name, count in found["peaks"].items()) or "not known here"
    seconds = ", ".join(f"{name} {count:.1f} s" for name, count in found["seconds"].items())
    yield Finding(
        "ok",
        "rehearsal",
        f"{found['steps']} steps with prompts of {found['prompt']:,} and responses of {found['response']:,} tokens\n"
        f"peak: {phases}; the process itself takes {gib(found['process'])} besides\n"
        f"last step: {seconds}",
    )
