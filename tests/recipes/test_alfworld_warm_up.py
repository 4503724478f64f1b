"""The warm-up on ALFWorld: its expert wins games by searching, and the script runs to its end."""

import json
import lzma
import random
import runpy
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmpo_vl.environments.alfworld.game import Game, House

ROOT = Path(__file__).parents[2]
TRACE = ROOT / "tests" / "environments" / "alfworld_trace.jsonl.xz"
GAMES = [json.loads(line) for line in lzma.decompress(TRACE.read_bytes()).splitlines()]


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    return runpy.run_path(str(ROOT / "recipes" / "warm_up_alfworld.py"))


def test_the_expert_wins_most_games_by_searching(recipe):
    won = 0
    for game in (Game(House(of["game"], of["problem"])) for of in GAMES):
        game.reset()
        expert = recipe["Expert"](game, random.Random(1))
        for _ in range(recipe["TURNS"]):
            _, command = expert.act()
            assert command in game.admissible
            expert.been.add(command)
            game.step(command)
            if game.won:
                won += 1
                break
    assert won >= 0.7 * len(GAMES)


def test_a_turn_shows_what_its_answer_needs(recipe):
    rows = [recipe["Example"](of["id"], of["problem"], "-", game=of["game"]) for of in GAMES]
    turns = recipe["expert_turns"](rows, random.Random(2), 0.2)
    taken = 0
    for turn, answer in (next(turns) for _ in range(400)):
        _, new, did, *_, can = turn.problem.splitlines()
        assert [line.split(":")[0] for line in (new, did, can)] == ["new", "did", "can"]
        command = answer.split("<action>")[1].removesuffix("</action>")
        if not command.startswith("go to "):
            assert f" {command};" in can
            taken += command.startswith("take ")
    assert taken > 20


def test_it_runs_from_rows_to_a_model_that_plays(run, tmp_path):
    rows = [
        {"images": [], "problem": of["problem"], "answer": "-", "id": of["id"], "game": of["game"]}
        for of in GAMES[:6]
    ]
    for split in ("train", "valid_train"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    sizes = ["--steps", "2", "--batch", "4", "--check-every", "2"]
    said = run("recipes/warm_up_alfworld.py", tmp_path / "model", "--data", tmp_path, *sizes)
    assert "won 0.0" in said
    assert (tmp_path / "model" / "model.safetensors").is_file()
