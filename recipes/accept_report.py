"""What recipes/accept_8gpu.sh found: a table of its runs, and PASS or FAIL with the reasons, in one file.

python recipes/accept_report.py runs/accept        # writes runs/accept/accept.txt
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from statistics import mean, median

from gmpo_vl.runs import Run
from gmpo_vl.storage.files import write_text

STEPS = 5
# Medians leave out the first step, which compiles and warms up.
COLUMNS = {
    "generate s": "time/generate",
    "log-probs s": "time/log_probs",
    "update s": "time/update",
    "step s": "time/step",
    "peak GiB": "memory/device_peak",
    "reward": "reward/overall",
    "gap p50": "rollout/mismatch_p50",
    "gap KL": "rollout/mismatch_kl",
    "skipped": "actor/skipped_updates",
    "saved": "batch/tokens_saved",
}
MEDIAN = {"time/generate", "time/log_probs", "time/update", "time/step"}
GAP = 0.1  # nats, median over tokens: what bf16 explains (gmpo_vl/engines/parity.py)


def figures(folder: Path) -> dict[str, float]:
    """A run's columns: medians of times, the largest memory and gaps, mean reward. Missing ones are NaN."""
    steps = [line for line in Run(folder).read_metrics() if line["step"] > 0]
    found: dict[str, float] = {"steps": len(steps)}
    for key in COLUMNS.values():
        values = [line[key] for line in steps if line.get(key) is not None]
        later = values[1:] or values
        if not values:
            found[key] = math.nan
        else:
            found[key] = (
                median(later) if key in MEDIAN else mean(values) if key == "reward/overall" else max(values)
            )
    return found


def faults(runs: dict[str, dict[str, float]]) -> list[str]:
    """Why this is no pass; nothing where it is one."""
    said = [
        f"{name}: {int(run['steps'])} of {STEPS} steps" for name, run in runs.items() if run["steps"] < STEPS
    ]
    ours = {name: runs[name] for name in ("shared", "plain") if name in runs}
    missing = {"shared", "plain"} - set(ours)
    said += [f"{name}: did not run" for name in sorted(missing)]
    if not any(name.startswith("easyr1_") for name in runs):
        said.append("easyr1: did not run")
    for name, run in ours.items():
        if not run["rollout/mismatch_p50"] <= GAP:
            said.append(
                f"{name}: sampler and trainer differ by {run['rollout/mismatch_p50']:.3g} nats, at most {GAP}"
            )
        if run["actor/skipped_updates"] != 0:
            said.append(f"{name}: updates with a non-finite gradient")
    if not missing:
        shared, plain = ours["shared"], ours["plain"]
        if not abs(shared["reward/overall"] - plain["reward/overall"]) <= 0.05:
            said.append("shared and plain: mean rewards differ by more than 0.05")
        if not shared["batch/tokens_saved"] > 0:
            said.append("shared: no prompt was shared; what the run printed before its first update says why")
        if not shared["time/update"] < plain["time/update"]:
            said.append("shared: its updates are not faster than plain ones")
    return said


def table(runs: dict[str, dict[str, float]]) -> str:
    lines = [f"{'':10}" + "".join(f"{title:>13}" for title in COLUMNS)]
    for name, run in runs.items():
        lines.append(f"{name:10}" + "".join(f"{run[key]:13.4g}" for key in COLUMNS.values()))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the folder of the runs, for example runs/accept")
    folder = parser.parse_args().folder
    runs = {path.parent.name: figures(path.parent) for path in sorted(folder.glob("*/metrics.jsonl"))}
    said = faults(runs)
    theirs = {name: run for name, run in runs.items() if name.startswith("easyr1_")}
    lines = [table(runs)]
    if theirs and "shared" in runs:
        best = min(theirs, key=lambda name: theirs[name]["time/update"])
        ratio = theirs[best]["time/update"] / runs["shared"]["time/update"]
        lines.append(
            f"an update with shared prompts against EasyR1's fastest ({best}): {ratio:.2f} times as fast"
        )
    lines += ["FAIL", *said] if said else ["PASS"]
    text = "\n".join(lines) + "\n"
    write_text(folder / "accept.txt", text)
    print(text, end="")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
