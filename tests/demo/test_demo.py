"""`gmpo-vl demo`, shortened: it runs from one end to the other and needs nothing of a checkout."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from gmpo_vl.cli import main
from gmpo_vl.config import load_config
from gmpo_vl.demo.agent import GUESS, as_expert, at_random, without_model
from gmpo_vl.demo.before_and_after import control, said_of_control
from gmpo_vl.environments.gridworld import MOVES, make_examples
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.tiny import packaged_gridworld

ROOT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder without the repository, as somebody has who installed a wheel."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_demo(*arguments: str) -> None:
    assert main(["demo", *arguments]) == 0


def test_the_demo_writes_its_page_and_summary(elsewhere, capsys):
    run_demo(
        "--test-problems", "28", "trainer.max_steps=2", "trainer.save_freq=2", "data.rollout_batch_size=16"
    )  # fmt: skip
    folder = elsewhere / "runs/demo"
    said = capsys.readouterr().out
    assert "28 test problems" in said
    summary = json.loads((folder / "summary.json").read_text())
    assert {"before", "after", "diff", "diff_ci95", "blank_image", "wrong_image", "seconds"} <= set(summary)
    assert summary["diff"] == pytest.approx(summary["after"] - summary["before"])
    assert summary["before"] > summary["blank_image"]
    assert ("the model does need its picture" in said) == (summary["blank_image_diff_ci95"][1] < 0)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What this run does not show" in page
    assert sorted(os.listdir(elsewhere)) == ["runs"]


def test_countdown_writes_its_page_and_summary_and_prints_its_routers(elsewhere, capsys):
    run_demo(
        "--countdown", "--test-problems", "16", "trainer.max_steps=1", "trainer.save_freq=1",
        "trainer.val_before_train=false", "data.rollout_batch_size=8",
    )  # fmt: skip
    folder = elsewhere / "runs/demo_countdown"
    said = capsys.readouterr().out
    assert "16 test problems" in said
    assert "layer 3 after" in said
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["diff"] == pytest.approx(summary["after"] - summary["before"])
    loads = summary["router_load"]["before"]
    assert len(loads) == 3
    assert all(sum(layer) == pytest.approx(8) for layer in loads)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Load of the experts" in page
    assert "What this run does not show" in page


def test_the_agent_s_demo_plays_before_and_after_and_shows_its_games(elsewhere, capsys):
    run_demo(
        "--agent", "--test-problems", "12", "trainer.max_steps=1", "trainer.save_freq=1",
        "trainer.val_before_train=false", "trainer.val_freq=-1", "data.rollout_batch_size=4",
        "worker.actor.global_batch_size=4", "worker.rollout.n=4",
    )  # fmt: skip
    folder = elsewhere / "runs/demo_agent"
    said = capsys.readouterr().out
    assert "12 test levels x 2" in said
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["diff"] == pytest.approx(summary["after"] - summary["before"])
    assert summary["before"] > summary["blank_image"]
    assert summary["expert"] > summary["random_moves"]
    assert 0.3 < summary["guesses_before"] < 0.6
    assert ("the model does need its picture" in said) == (summary["blank_image_diff_ci95"][1] < 0)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Share of games won" in page
    assert "another game&#39;s picture" in page
    assert "The same games, before and after" in page
    assert "Games of training" in page
    assert sorted(os.listdir(elsewhere)) == ["runs"]


def test_that_the_picture_is_needed_is_said_only_where_the_control_is_clearly_lower():
    after_Q = np.array([0.0, 0.5, 1.0, 1.0] * 8)
    for control_Q, lower in ((after_Q / 4, True), (after_Q, False), (after_Q[::-1], False)):
        figures = control("blank_image", control_Q, after_Q)
        assert figures["blank_image"] == control_Q.mean()
        assert (said_of_control(figures, "blank_image", "it is needed") == "it is needed") == lower


def test_the_expert_wins_more_than_moves_at_random():
    levels = make_examples("test", 40)
    assert without_model(levels, 15, as_expert) > 0.7
    assert without_model(levels, 15, at_random) < 0.15


def test_the_player_s_guesses_have_as_many_tokens_as_its_plans():
    tokenizer = load_processor(packaged_gridworld()).tokenizer
    answers = [f"12{to}<action>{move}</action>" for to in (GUESS, " to 30 ") for move in MOVES]
    assert len({len(tokenizer(answer)["input_ids"]) for answer in answers}) == 1


def test_a_folder_that_no_demo_has_written_is_left_alone(elsewhere, capsys):
    (elsewhere / "mine").mkdir()
    (elsewhere / "mine/thesis.txt").write_text("years")
    assert main(["demo", "trainer.save_checkpoint_path=mine"]) == 2
    assert "no demo has written it" in capsys.readouterr().err
    assert (elsewhere / "mine/thesis.txt").read_text() == "years"


@pytest.mark.parametrize(
    ("file", "packaged"), [("demo", "diagrams"), ("countdown_tiny_moe", "countdown"), ("demo_agent", "agent")]
)
def test_a_checkout_s_file_is_the_packaged_one_with_the_model_s_path(file, packaged):
    shown = load_config(ROOT / "configs" / f"{file}.yaml")
    model = shown.worker.actor.model.model_path
    assert model is not None
    own = load_config(ROOT / "gmpo_vl/demo" / f"{packaged}.yaml", [f"worker.actor.model.model_path={model}"])
    assert own == shown
    assert (ROOT / model / "config.json").is_file()
