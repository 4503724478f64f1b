"""ALFWorld's games on a tiny model: the table of docs/agents.md from the study configs/study/alfworld.yaml.

    gmpo-vl study configs/study/alfworld.yaml
    bash benchmarks/alfworld_held_out.sh runs/studies/alfworld runs/alfworld_held_out
    python benchmarks/alfworld_table.py runs/studies/alfworld runs/alfworld_held_out
    python benchmarks/alfworld_table.py --write

With the two folders the script takes the figures into benchmarks/results/alfworld.json; without, it prints
the table from there, or writes it into the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from gmpo_vl.environments.alfworld.game import NOTHING_HAPPENS
from gmpo_vl.evaluation.statistics import (
    Estimate,
    crossed_difference,
    mean_over_questions,
    mean_over_seeds,
    two_level_difference,
)
from gmpo_vl.report.curves import points
from gmpo_vl.runs import Run, StudyFolder
from gmpo_vl.storage.files import write_json
from gmpo_vl.study.declaration import Study, read_study
from gmpo_vl.study.estimates import collect
from gmpo_vl.study.outcomes import Outcome

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "configs" / "study" / "alfworld.yaml"
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "alfworld.json", ROOT / "docs" / "agents.md"
BEGIN, END = "<!-- from benchmarks/alfworld_table.py -->\n", "<!-- end of alfworld_table.py -->\n"
SPLITS, TEMPERATURES = ("valid_seen", "valid_unseen"), ("1", "0.4")
CURVES = ("episode/won", "episode/turns", "actor/entropy", "group/zero_variance", "actor/ratio_max")
MINUS = "\N{MINUS SIGN}"

Cell = tuple[str, str]  # (method, setting)
Scores = Mapping[str, np.ndarray]  # {split: share of won episodes (seeds, games)}


# --- from the folders ---------------------------------------------------------------------------------------
def gather(study: Study, folder: StudyFolder, held_out: Path) -> dict[str, Any]:
    """What the table needs. held_out: of alfworld_held_out.sh. Raises ValueError where a run is missing."""
    outcomes, _ = collect(study, folder)
    missing = [o.run.name for o in outcomes if o.state != "finished"]
    if missing:
        raise ValueError(f"{folder.folder}: not finished: {', '.join(missing)}")
    runs = {(o.run.phase, o.run.cell, o.run.seed): folder.run(o.run.name) for o in outcomes}
    seeds = study.fresh_seeds
    before, cool_before = (
        over_seeds([won(Run(held_out / name / f"seed{seed}")) for seed in seeds])
        for name in ("start", "cool/start")
    )
    after, cool = {}, {}
    for cell in study.cells:
        # A training's validation plays valid_seen, the study's test runs valid_unseen.
        after[cell] = over_seeds([won(runs["final", cell, s]) | won(runs["test", cell, s]) for s in seeds])
        cool[cell] = over_seeds([won(Run(held_out.joinpath("cool", *cell, f"seed{s}"))) for s in seeds])
    endings = [folder.ending(o.run.name) or {} for o in outcomes]
    return {
        "temperature_1": compare(study, before, after),
        "temperature_0.4": compare(study, cool_before, cool),
        "changed_nothing": {
            "before": idle([Run(held_out / "start" / f"seed{seed}") for seed in seeds]),
            "cells": [idle([runs["test", cell, seed] for seed in seeds]) for cell in study.cells],
        },
        "training": [
            {"method": o.run.method, "baseline": o.run.updates, "seed": o.run.seed, **curves(o)}
            for o in outcomes
            if o.run.phase == "final"
        ],
        "seconds": {
            phase: [ending["seconds"] for o, ending in zip(outcomes, endings) if o.run.phase == phase]
            for phase in ("final", "test")
        },
        "versions": endings[0]["versions"],
    }


def won(run: Run) -> dict[str, np.ndarray]:
    """{split: float64 (games,)}: share of won episodes of each game of the last validation, by the games'
    ids."""
    found: dict[str, dict[str, list[float]]] = {}
    for record in run.read_rollouts(run.rollout_steps("validation")[-1], "validation"):
        if record.turn["number"] == 1:  # every turn has the episode's score
            games = found.setdefault(record.id.split("/")[0], {})
            games.setdefault(record.id, []).append(record.reward["accuracy"])
    return {split: np.array([fmean(games[game]) for game in sorted(games)]) for split, games in found.items()}


def idle(runs: Sequence[Run]) -> list[float]:
    """Of each run: share of the turns of valid_unseen, first ones left out, before which a command changed
    nothing."""
    shares = []
    for run in runs:
        records = run.read_rollouts(run.rollout_steps("validation")[-1], "validation")
        turns = [r for r in records if r.id.startswith("valid_unseen/") and r.turn["number"] > 1]
        shares.append(fmean(f"\n{NOTHING_HAPPENS}\n" in turn.prompt for turn in turns))
    return rounded(shares)


def over_seeds(runs: Sequence[Mapping[str, np.ndarray]]) -> Scores:
    return {split: np.stack([run[split] for run in runs]) for split in SPLITS}


def compare(study: Study, before: Scores, after: Mapping[Cell, Scores]) -> dict[str, Any]:
    """Shares of won games before and after, what each cell gained, and the differences between cells."""
    return {
        "before": {split: means(before[split]) for split in SPLITS},
        "cells": [
            {
                "method": cell[0],
                "baseline": cell[1],
                **{split: means(scores[split]) for split in SPLITS},
                "gain": {split: difference(before[split], scores[split]) for split in SPLITS},
            }
            for cell, scores in after.items()
        ],
        "differences": [
            {"of": name, **{split: difference(after[a][split], after[b][split]) for split in SPLITS}}
            for name, a, b in compared(study)
        ],
    }


def compared(study: Study) -> Iterator[tuple[str, Cell, Cell]]:
    """(name, a, b) of each difference b - a: methods under each baseline, then baselines for each method."""
    (first, second), (turns, episodes) = study.methods, study.updates
    for setting in study.updates:
        yield f"`{second}` {MINUS} `{first}`, `{setting}`", (first, setting), (second, setting)
    for method in study.methods:
        yield f"`{episodes}` {MINUS} `{turns}`, `{method}`", (method, turns), (method, episodes)


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


def curves(outcome: Outcome) -> dict[str, list[float]]:
    """Of a run's training: what each step's games came to."""
    return {key.split("/")[1]: rounded(y for x, y in points(outcome.metrics, key) if x > 0) for key in CURVES}


def ends(estimate: Estimate) -> dict[str, float]:
    return {key: round(getattr(estimate, key), 4) for key in ("value", "low", "high")}


def rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


# --- to the page --------------------------------------------------------------------------------------------
def table(found: Mapping[str, Any]) -> str:
    """Shares of won games in percent, differences in points."""
    head = ["", *(f"`{split}`, T = {t}" for t in TEMPERATURES for split in SPLITS)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    parts = [found[f"temperature_{t}"] for t in TEMPERATURES]
    lines.append(row("**won, %:** before", [part["before"] for part in parts], share))
    for i, cell in enumerate(parts[0]["cells"]):
        name = f"`{cell['method']}`, `{cell['baseline']}`"
        lines.append(row(name, [part["cells"][i] for part in parts], share))
    for i, cell in enumerate(parts[0]["cells"]):
        name = f"`{cell['method']}`, `{cell['baseline']}` {MINUS} before"
        lines.append(
            row("**points:** " * (i == 0) + name, [part["cells"][i]["gain"] for part in parts], points_of)
        )
    for i, pair in enumerate(parts[0]["differences"]):
        lines.append(row(pair["of"], [part["differences"][i] for part in parts], points_of))
    nothing = found["changed_nothing"]
    lines += ["", "| commands that changed nothing, `valid_unseen`, T = 1 | %, by seed |", "|---|---|"]
    names = ["before", *(f"`{cell['method']}`, `{cell['baseline']}`" for cell in parts[0]["cells"])]
    for name, shares in zip(names, [nothing["before"], *nothing["cells"]]):
        lines.append(f"| {name} | {', '.join(map(percent, shares))} |")
    return "\n".join(lines) + "\n"


def row(name: str, parts: Sequence[Mapping[str, Any]], words: Callable[[Any], str]) -> str:
    """parts: {split: figures} of each temperature."""
    cells = [words(part[split]) for part in parts for split in SPLITS]
    return f"| {' | '.join([name, *cells])} |"


def share(of: Mapping[str, Any]) -> str:
    """Mean, interval over seeds, interval over games."""
    low, high = of["low"], of["high"]
    games = of["over_games"]
    return (
        f"{percent(of['value'])} ({percent(max(low, 0.0))} to {percent(min(high, 1.0))}; "
        f"{percent(games['low'])} to {percent(games['high'])})"
    )


def points_of(of: Mapping[str, Any]) -> str:
    """Mean, Student's interval that counts seeds and games as drawn, bootstrap over both."""
    low, high = of["crossed"]
    ends = [percent(value, signed=True) for value in (of["value"], low, high, of["low"], of["high"])]
    return "{} ({} to {}; {} to {})".format(*ends)


def percent(share: float, signed: bool = False) -> str:
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
    parser.add_argument("folders", nargs="*", type=Path, help="the study's, and alfworld_held_out.sh's")
    parser.add_argument("--write", action="store_true", help="write the table into docs/agents.md")
    args = parser.parse_args()
    if args.folders:
        folder, held_out = args.folders
        write_json(RESULTS, gather(read_study(STUDY), StudyFolder(folder), held_out))
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    if args.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    else:
        print(table(found), end="")


if __name__ == "__main__":
    main()
