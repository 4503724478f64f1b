"""docs/agents.md shows benchmarks/results/alfworld.json as it is; how figures are counted."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from gmpo_vl.runs import Run
from gmpo_vl.samples import SampleRecord

TABLE = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "alfworld_table.py"))


def test_the_page_s_table_is_that_of_the_results():
    found = json.loads(TABLE["RESULTS"].read_text(encoding="utf-8"))
    text = TABLE["PAGE"].read_text(encoding="utf-8")
    assert text == TABLE["written"](text, found), "write it anew: python benchmarks/alfworld_table.py --write"


def record(game: str, k: int, number: int, won: bool) -> SampleRecord:
    return SampleRecord(
        id=game,
        group=game,
        k=k,
        prompt="?",
        images=[],
        response="!",
        finished=True,
        gold="-",
        extracted=None,
        gold_type="text",
        correct=won,
        outcome="scored",
        reward={"overall": 10.0 * won, "accuracy": float(won)},
        seed=0,
        length=1,
        turn={"episode": k, "number": number},
    )


def test_a_game_counts_its_episodes_not_their_turns(tmp_path):
    records = [
        record("valid_seen/b", 0, 1, True),
        *(record("valid_seen/a", 0, number, False) for number in range(1, 6)),
        record("valid_seen/a", 1, 1, True),
        record("valid_unseen/c", 0, 1, False),
    ]
    run = Run(tmp_path / "run").create()
    run.write_rollouts(5, records, "validation")
    found = TABLE["won"](run)
    assert {split: games.tolist() for split, games in found.items()} == {
        "valid_seen": [0.5, 1.0],
        "valid_unseen": [0.0],
    }


def test_differences_are_paired_by_seed_and_game():
    a_SQ = np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    found = TABLE["difference"](a_SQ, a_SQ)
    assert (found["value"], found["seeds"]) == (0.0, [0.0, 0.0, 0.0])
    b_SQ = np.array([[1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]])
    found = TABLE["difference"](a_SQ, b_SQ)
    assert (found["value"], found["seeds"]) == (0.25, [0.25, 0.25, 0.25])
    assert found["low"] < 0.25 < found["high"]


@pytest.mark.parametrize(
    ("value", "signed", "text"), [(0.125, False, "12.5"), (0.031, True, "+3.1"), (-0.04, True, "\u22124.0")]
)
def test_shares_are_written_in_percent(value, signed, text):
    assert TABLE["percent"](value, signed) == text
