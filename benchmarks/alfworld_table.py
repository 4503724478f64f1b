"""ALFWorld's games on a tiny model: the table of docs/agents.md from the study configs/study/alfworld.yaml.

    for seed in 1 2 3; do for split in valid_seen valid_unseen; do
        gmpo-vl train configs/alfworld_tiny_cpu.yaml trainer.val_only=true \\
            trainer.val_generations_to_log=1000000 data.val_files=data/alfworld/$split.parquet \\
            worker.rollout.seed=$seed trainer.save_checkpoint_path=runs/alfworld_start/$split/seed$seed
    done; done
    gmpo-vl study configs/study/alfworld.yaml
    python benchmarks/alfworld_table.py runs/studies/alfworld runs/alfworld_start
    python benchmarks/alfworld_table.py --write

The first loop plays the held-out games with the model that training starts from. With the two folders the
script takes the figures into benchmarks/results/alfworld.json; without, it prints the table from there, or
writes it into the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from gmpo_vl.evaluation.statistics import (
    Estimate,
    crossed_difference,
    mean_over_questions,
    mean_over_seeds,
    two_level_difference,
)
from gmpo_vl.report.curves import Metrics, points
from gmpo_vl.runs import Run, StudyFolder
from gmpo_vl.storage.files import write_json
from gmpo_vl.study.declaration import Study, read_study
from gmpo_vl.study.estimates import collect
from gmpo_vl.study.outcomes import Outcome

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "configs" / "study" / "alfworld.yaml"
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "alfworld.json", ROOT / "docs" / "agents.md"
BEGIN, END = "<!-- from benchmarks/alfworld_table.py -->\n", "<!-- end of alfworld_table.py -->\n"
PHASES = {"valid_seen": "final", "valid_unseen": "test"}  # the runs of a study that played a split
SPLITS = tuple(PHASES)
MINUS = "\N{MINUS SIGN}"

Cell = tuple[str, str]  # (method, setting)
Scores = dict[str, np.ndarray]  # {split: share of won episodes (seeds, games)}


# --- from the folders ---------------------------------------------------------------------------------------
def gather(study: Study, folder: StudyFolder, start: Path) -> dict[str, Any]:
    """What the table needs. Raises ValueError where a run is missing or played other games."""
    outcomes, _ = collect(study, folder)
    missing = [o.run.name for o in outcomes if o.state != "finished"]
    if missing:
        raise ValueError(f"{folder.folder}: not finished: {', '.join(missing)}")
    played = {(o.run.phase, o.run.cell, o.run.seed): o for o in outcomes}
    scores: dict[Cell, Scores] = {}
    for cell in study.cells:
        scores[cell] = {
            split: np.stack(
                [won(folder.run(played[phase, cell, seed].run.name)) for seed in study.fresh_seeds]
            )
            for split, phase in PHASES.items()
        }
    before = {
        split: np.stack([won(Run(start / split / f"seed{seed}")) for seed in study.fresh_seeds])
        for split in SPLITS
    }
    endings = [folder.ending(o.run.name) or {} for o in outcomes]
    return {
        "before": {split: means(before[split]) for split in SPLITS},
        "cells": [
            {
                "method": cell[0],
                "baseline": cell[1],
                **{split: means(scores[cell][split]) for split in SPLITS},
                "gain": {split: difference(before[split], scores[cell][split]) for split in SPLITS},
                "training": [curve(played["final", cell, seed]) for seed in study.fresh_seeds],
            }
            for cell in study.cells
        ],
        "differences": [
            {
                "of": f"{after[0]} {MINUS} {first[0]}, {first[1]}"
                if of == "method"
                else f"{after[1]} {MINUS} {first[1]}, {first[0]}",
                **{split: difference(scores[first][split], scores[after][split]) for split in SPLITS},
            }
            for of, first, after in compared(study)
        ],
        "seconds": round(sum(ending["seconds"] for ending in endings)),
        "versions": endings[0]["versions"],
    }


def compared(study: Study) -> Iterator[tuple[str, Cell, Cell]]:
    """(what differs, the first cell, the other): methods under each baseline, then the reverse."""
    methods, settings = list(study.methods), list(study.updates)
    for setting in settings:
        yield "method", (methods[0], setting), (methods[1], setting)
    for method in methods:
        yield "baseline", (method, settings[0]), (method, settings[1])


def won(run: Run) -> np.ndarray:
    """float64 (games,): share of won episodes of each game of the last validation, by the games' ids."""
    found: dict[str, list[float]] = {}
    for record in run.read_rollouts(run.rollout_steps("validation")[-1], "validation"):
        if record.turn["number"] == 1:  # every turn has the episode's score
            found.setdefault(record.id, []).append(record.reward["accuracy"])
    return np.array([fmean(found[game]) for game in sorted(found)])


def means(scores_SQ: np.ndarray) -> dict[str, Any]:
    """Mean with Student's interval over seeds, each seed's share, and a bootstrap over games."""
    by_seed, by_game = mean_over_seeds(scores_SQ.mean(1)), mean_over_questions(scores_SQ.mean(0))
    return {**ends(by_seed), "seeds": rounded(scores_SQ.mean(1)), "over_games": ends(by_game)}


def difference(a_SQ: np.ndarray, b_SQ: np.ndarray) -> dict[str, Any]:
    """b - a, paired by seed and game: a bootstrap over both, and Student's t that counts both as drawn."""
    two, crossed = two_level_difference(a_SQ, b_SQ), crossed_difference(a_SQ, b_SQ)
    low, high = crossed.interval(0.95)
    return {
        **ends(two.estimate),
        "seeds": rounded(b_SQ.mean(1) - a_SQ.mean(1)),
        "crossed": rounded([low, high]),
        "p": round(crossed.p_value(), 4),
    }


def curve(outcome: Outcome) -> dict[str, Any]:
    """Of a run's training: what each step's games came to."""
    of: Metrics = outcome.metrics
    return {
        "seed": outcome.run.seed,
        **{
            key.split("/")[1]: rounded(y for x, y in points(of, key) if x > 0)
            for key in ("episode/won", "episode/turns", "actor/entropy", "group/zero_variance")
        },
    }


def ends(estimate: Estimate) -> dict[str, float]:
    return {key: round(getattr(estimate, key), 4) for key in ("value", "low", "high")}


def rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


# --- to the page --------------------------------------------------------------------------------------------
def table(found: Mapping[str, Any]) -> str:
    """Shares of won games, then differences, in percent and points."""
    lines = [
        "| won, % | `valid_seen` | by seed | `valid_unseen` | by seed |",
        "|---|---|---|---|---|",
        row("before", [found["before"][split] for split in SPLITS], signed=False),
    ]
    for cell in found["cells"]:
        name = f"`{cell['method']}`, `{cell['baseline']}`"
        lines.append(row(name, [cell[split] for split in SPLITS], signed=False))
    lines += ["", "| points | `valid_seen` | by seed | `valid_unseen` | by seed |", "|---|---|---|---|---|"]
    for cell in found["cells"]:
        name = f"`{cell['method']}`, `{cell['baseline']}` {MINUS} before"
        lines.append(row(name, [cell["gain"][split] for split in SPLITS], signed=True))
    for pair in found["differences"]:
        lines.append(row(pair["of"], [pair[split] for split in SPLITS], signed=True))
    return "\n".join(lines) + "\n"


def row(name: str, of_splits: Sequence[Mapping[str, Any]], signed: bool) -> str:
    cells = [name]
    for of in of_splits:
        low, high = (percent(of[end], signed) for end in ("low", "high"))
        cells.append(f"{percent(of['value'], signed)} ({low} to {high})")
        cells.append(", ".join(percent(value, signed) for value in of["seeds"]))
    return f"| {' | '.join(cells)} |"


def percent(share: float, signed: bool) -> str:
    text = f"{abs(100 * share):.1f}"
    sign = MINUS if share < 0 else "+" if signed else ""
    return (sign if text != "0.0" else "") + text


def written(text: str, found: Mapping[str, Any]) -> str:
    """The page's text with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table(found) + END + rest.partition(END)[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="the study's, and the start model's runs")
    parser.add_argument("--write", action="store_true", help="write the table into docs/agents.md")
    args = parser.parse_args()
    if args.folders:
        folder, start = args.folders
        write_json(RESULTS, gather(read_study(STUDY), StudyFolder(folder), start))
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    if args.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    else:
        print(table(found), end="")


if __name__ == "__main__":
    main()
