"""`gmpo-vl doctor`: arguments and command. Nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gmpo_vl.cli.data import new_path
from gmpo_vl.progress import quiet_libraries


def add_doctor(commands: Any) -> None:
    """Register `doctor` with the command line's parser."""
    parser = commands.add_parser(
        "doctor",
        help="everything that can be known before a run: model, data, memory, disk, reward",
        description="Exit code: 0 when nothing stands in the way, 1 when something does, 2 when the "
        "configuration is refused.",
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
    from gmpo_vl.preflight.doctor import examine
    from gmpo_vl.preflight.findings import Finding, count_line, doctor_record, lines_of
    from gmpo_vl.preflight.rehearsal import rehearse_apart
    from gmpo_vl.storage.files import write_json

    quiet_libraries()
    config = load_config(options.config, options.overrides)
    make_output_folder(options.out)
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        print("\n".join(lines_of(finding)), flush=True)
        findings.append(finding)

    for finding in examine(config, options.out):
        tell(finding)
    if options.rehearse and any(finding.level == "error" for finding in findings):
        tell(Finding("note", "rehearsal", "not tried: the errors above stand in its way"))
    elif options.rehearse:
        tell(rehearse_apart(config, options.config, options.overrides))
    write_json(options.out / "doctor.json", [doctor_record(finding) for finding in findings])
    print(count_line(findings))
    return 1 if any(finding.level == "error" for finding in findings) else 0
