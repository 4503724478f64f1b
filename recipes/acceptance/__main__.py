"""Does it work on this GPU? Each check in a process of its own; one page with PASS, FAIL or SKIPPED a line.

bash recipes/accept_1gpu.sh [--core] [--out FOLDER] [--keep]
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from acceptance import commands, kernels, training
from acceptance.page import ending_of, entry_of, page_of, surroundings, write_page
from acceptance.runner import Check, Place, run_all

# Limits add up to six minutes. On a CPU, which others may keep busy, they are ten times as long.
CORE = (
    Check("machine", kernels.machine, 30),
    Check("attention: SDPA", kernels.attention_by_sdpa, 30),
    Check("attention: flash-attn", kernels.attention_by_flash, 40, needs=("flash_attn",), cuda=True),
    Check("shared forward against plain", training.shared_against_plain, 80),
    Check("passes in a process group", training.passes_in_a_process_group, 40),
    Check("save and go on", training.save_and_go_on, 40),
    Check("model", training.build, 40),
    Check("engine local: a step", training.step_of_engine_local, 60, after="model"),
)
EASYR1 = ("verl", "ray")
LARGER = 3  # times as long, for a model three times as large


def checks_of(core: bool, cuda: bool) -> tuple[Check, ...]:
    """What is run: CORE, and without `core` everything else as well."""
    if core:
        return tuple(_with_time(check, 1 if cuda else 10) for check in CORE)
    vllm = ("vllm",) if cuda else ()  # on a CPU engine easyr1 can do without
    first, last, after = "engine easyr1: LoRA, 2 steps", "engine easyr1: a third step", EASYR1 + vllm
    more = (
        Check(first, commands.easyr1_with_lora, 300, after, after="model"),
        Check(last, commands.easyr1_goes_on, 240, after, after=first),
        Check("export", commands.export_of_the_last_step, 120, after, after=last),
        Check("eval --backend vllm", commands.evaluation_with_vllm, 180, ("vllm",), after="model"),
    )
    large = tuple(_with_time(check, LARGER) for check in CORE)
    return tuple(_with_time(check, 1 if cuda else 10) for check in (*large, *more))


def _with_time(check: Check, times: float) -> Check:
    return replace(check, limit=check.limit * times)


def fresh_work_folder(work: Path) -> None:
    """An empty folder for models and runs.

    One that this script did not make is somebody's, and is left alone.
    """
    mark = work / "MADE_BY_ACCEPT_1GPU"
    if work.exists() and not mark.exists():
        sys.exit(f"{work} is there and this script did not make it: give another folder with --out")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    mark.touch()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="accept_1gpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--core", action="store_true", help="what torch and transformers suffice for: 6 minutes"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/accept_1gpu"), help="the folder of page and logs"
    )
    parser.add_argument("--keep", action="store_true", help="leave models and runs in OUT/work")
    options = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # the check that runs is ended, too
    cuda = torch.cuda.is_available()
    place = Place(options.out.resolve(), cuda, options.core)
    fresh_work_folder(place.work)
    checks = checks_of(options.core, cuda)
    found = run_all(checks, place, lambda name, outcome: print(entry_of(name, outcome), flush=True))
    if not options.keep:
        shutil.rmtree(place.work)
    about = surroundings()
    ending = ending_of(found, about)
    hardware = found["machine"].figures.get("hardware", "an unknown device")
    page = page_of(f"gmpo_vl on {hardware}, {'core' if options.core else 'whole'}", found, ending)
    write_page(place.out, page, found, about)
    print(f"\n{ending}\nThis page: {place.out / 'accept.md'}; what each check printed: {place.out / 'logs'}")
    return 1 if any(outcome.verdict == "FAIL" for outcome in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
