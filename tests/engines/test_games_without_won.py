"""Games that never say `won`: they have a score and no accuracy, and what goes by it says so."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gmpo_vl.cli import main
from gmpo_vl.config import AlgorithmConfig, load_config
from gmpo_vl.engines.checkpoint import Progress
from gmpo_vl.engines.collect import filter_doubt
from gmpo_vl.engines.local.engine import train
from gmpo_vl.report.curves import curves
from gmpo_vl.types import Example, Group, Prompt

GAMES = Path(__file__).parent / "playing_games.py"


@pytest.fixture
def settings(config_file, overrides):
    """A run of text games, as a.b=c."""
    plays = [f"environment.name={GAMES}:Points", "environment.settings={pictures: false}"]
    plays += ["environment.max_turns=3", "trainer.max_steps=2", "trainer.val_freq=1", "trainer.save_freq=1"]
    return [*(text for text in overrides if "reward_function" not in text), *plays]


def test_validation_and_the_best_checkpoint_go_by_the_score(settings, config_file, capsys):
    assert main(["train", str(config_file), *settings, "trainer.logger=[console,file]"]) == 0
    run = Path(folder_of(settings).partition("=")[2])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert not {"val/accuracy", "reward/accuracy", "episode/won", "val/episode/won"} & set().union(*lines)
    scores = {line["step"]: line["val/overall"] for line in lines if line["step"]}
    best = max(scores, key=lambda step: (scores[step], -step))
    assert max(scores.values()) < -1, "no score is above where an accuracy begins"
    found = json.loads((run / "checkpoints/best.json").read_text())
    assert found == {"step": best, "val/overall": scores[best]}
    assert f"validation {scores[2]:.3f}" in capsys.readouterr().out
    (chart,) = (chart for chart in curves(lines) if chart.title == "Validation")
    assert [y for _, y in chart.series[0].points] == [line["val/overall"] for line in lines]


def test_a_validation_with_an_accuracy_is_better_than_one_without():
    progress = Progress()
    assert progress.note_validation(1, {"val/overall": -7.0})
    assert not progress.note_validation(2, {"val/overall": -7.5})
    assert progress.note_validation(3, {"val/overall": -9.0, "val/accuracy": 0.1})
    assert not progress.note_validation(4, {"val/overall": 9.0})
    assert not progress.note_validation(5, {"val/unscored": 1.0})
    assert (progress.best_step, progress.best_by, progress.best_accuracy) == (3, "val/accuracy", 0.1)


def test_a_filter_whose_limits_keep_no_game_is_told_at_the_first_batch(settings, config_file, capsys):
    filtering = ["algorithm.online_filtering=true", "trainer.max_try_make_batch=3", "trainer.val_freq=-1"]
    train(load_config(config_file, [*settings, *filtering]))
    out = capsys.readouterr().out
    assert out.count("WARNING: algorithm.online_filtering keeps 0 of 4 groups: it goes by `overall`") == 1
    assert "none said `won`" in out
    assert re.search(r"in this batch from -\d+ to -\d+, and filter_low 0.01 and filter_high 0.99", out)
    fitting = ["algorithm.filter_low=-14.9", "algorithm.filter_high=5", f"{folder_of(settings)}_2"]
    train(load_config(config_file, [*settings, *filtering, *fitting]))
    assert "algorithm.online_filtering keeps" not in capsys.readouterr().out


def folder_of(settings: list[str]) -> str:
    return next(text for text in settings if "save_checkpoint_path" in text)


def groups(*scores: list[float], part: str = "overall") -> list[Group]:
    nothing = torch.zeros(0)
    prompt = Prompt(Example("", "", ""), "", nothing, (), nothing, nothing)
    of = [[{"overall": score} | {part: score} for score in of_group] for of_group in scores]
    return [Group(str(i), prompt, [], of_group) for i, of_group in enumerate(of)]


@pytest.mark.parametrize(
    ("found", "limits", "told"),
    [
        (groups([0, 1], [1, 1]), (0.01, 0.99), False),
        (groups([1, 1], [0, 0]), (0.01, 0.99), False),  # flat groups say nothing about limits
        (groups([0, 0.001], [0, 0.002]), (0.01, 0.99), True),
        (groups([0, 1], [3, 9]), (0.01, 0.99), True),
        (groups([-3, -3], [-3, -3]), (0.01, 0.99), True),
        (groups([0, 1], [3, 9]), (0.5, 9), False),
        (groups([0, 1], [3, 9], part="accuracy"), (0.01, 0.99), True),
        ([replace(group, scores=[]) for group in groups([1], [2])], (0.01, 0.99), False),
    ],
)
def test_limits_in_another_unit_than_the_scores_are_told(found, limits, told):
    low, high = limits
    said = filter_doubt(found, AlgorithmConfig(filter_low=low, filter_high=high))
    assert (said is not None) == told
    if said is not None:
        assert f"filter_low {low:g} and filter_high {high:g}" in said
