"""`data check` and `data show` of games: a row is looked at as its first turn, which a run shows first."""

import json
from pathlib import Path

import pytest

from gmpo_vl.cli import main
from gmpo_vl.config import load_config
from gmpo_vl.data.writing import write_splits
from gmpo_vl.environments.gridworld import make_examples
from gmpo_vl.preflight.data_check import check_data
from gmpo_vl.preflight.row_scan import data_to_check
from gmpo_vl.setup import load_configured_environment, load_configured_processor, load_split

HOUSE = Path(__file__).parents[2]
GAMES = HOUSE / "tests/environments/user_games.py"


@pytest.fixture
def rows(tmp_path):
    """Write rows of one problem with these games; returns the arguments of a command."""

    def write(games: list[str], *more: str, name: str = "gridworld") -> list[str]:
        content = [
            {"problem": "Go.", "answer": "-", "id": f"row {i}", "game": game, "images": []}
            for i, game in enumerate(games)
        ]
        write_splits(tmp_path / "rows", {"train": content}, {"id": "string", "game": "string"})
        files = [f"data.train_files={tmp_path / 'rows/train.parquet'}", "data.val_files=null"]
        settings = [f"environment.name={name}", "trainer.val_freq=-1"]
        config = (HOUSE / "configs/gridworld_tiny_cpu.yaml").read_text()
        (tmp_path / "run.yaml").write_text(config.replace("  settings: {view: 1}\n", ""))
        model = f"worker.actor.model.model_path={HOUSE / 'gmpo_vl/models/pretrained'}"
        return [str(tmp_path / "run.yaml"), *files, *settings, model, *more]

    return write


def levels(count: int) -> list[str]:
    return [level.game for level in make_examples("train", count)]


def found(arguments: list[str], out: Path, *options: str) -> tuple[int, dict, list[tuple[str, str, str]]]:
    """(exit code, check.json, (id, reason, detail) of each finding)"""
    code = main(["data", "check", *arguments, "--out", str(out), *options])
    lines = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    told = [(line["id"], line["reason"], line["detail"]) for line in lines]
    return code, json.loads((out / "check.json").read_text()), told


def test_lengths_are_those_of_the_first_turns_that_a_run_plays(rows, tmp_path):
    arguments = rows(levels(5))
    code, figures, told = found(arguments, tmp_path / "check")
    assert (code, told) == (0, [])
    config = load_config(arguments[0], arguments[1:])
    make = load_configured_environment(config)
    prompts = load_split(config, config.data.train_files, load_configured_processor(config), make)
    assert figures["splits"]["train"]["lengths"]["quantiles"]["max"] == max(prompts.lengths)
    checked = check_data(data_to_check(config), tmp_path / "again").surveys["train"]
    assert list(checked.tokens_K) == prompts.lengths
    assert list(checked.image_tokens_K) == prompts.picture_lengths == [16] * 5
    code, _, told = found(rows(levels(3), "data.max_prompt_length=40"), tmp_path / "short")
    assert code == 1
    assert [reason for _, reason, _ in told] == ["prompt_too_long"] * 3


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_broken_game_is_named_with_its_reason(rows, tmp_path, workers):
    games = levels(3)
    games[1] = "nothing"
    code, figures, told = found(rows(games), tmp_path / "check", "--workers", workers)
    assert (code, figures["splits"]["train"]["rows_with_errors"]) == (1, 1)
    (one,) = told
    assert one[:2] == ("row 1", "game_broken")
    assert "is no level of the grid world" in one[2]


def test_games_in_processes_of_their_own_are_looked_at_and_ended(rows, tmp_path):
    arguments = rows(["a", "b"], "environment.isolate=true", name=f"{GAMES}:NeverMade")
    code, _, told = found(arguments, tmp_path / "check")
    assert code == 1
    assert [detail for _, _, detail in told] == [
        f"NeverMade(example, ...) raised OSError: no board for row {i} (user_games.py, line 92)"
        for i in range(2)
    ]


def test_a_game_comes_twice_where_its_game_does_and_not_where_its_problem_does(rows, tmp_path):
    one, other = levels(2)
    _, _, told = found(rows([one, other, one]), tmp_path / "check")
    assert told == [("row 2", "duplicate", "the same problem as row 0")]
    # Rows without a game of their own: what differs is drawn by their ids.
    _, _, told = found(rows([""] * 3, name=f"{GAMES}:Counting"), tmp_path / "check")
    assert told == []


def test_the_gallery_shows_first_turns(rows, tmp_path):
    page = tmp_path / "show.html"
    assert main(["data", "show", *rows([*levels(2), "nothing"]), "--out", str(page)]) == 0
    shown = page.read_text()
    assert shown.count("Turn 1:") == 2
    assert shown.count("16 tokens</figcaption>") == 2
    assert "is no level of the grid world" in shown


def test_an_environment_that_cannot_be_loaded_is_told(rows, tmp_path, capsys):
    assert main(["data", "check", *rows(["x"], name="gridwold"), "--out", str(tmp_path / "check")]) == 2
    assert "did you mean gridworld?" in capsys.readouterr().err
