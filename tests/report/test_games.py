"""Games on a run's page: which are shown, turn by turn, and nothing that an answer wrote runs."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest

from gmpo_vl.environments.gridworld import GridWorld, make_examples
from gmpo_vl.report import write_report
from gmpo_vl.report.cards import before_and_after
from gmpo_vl.report.games import EPISODES, GAMES_PER_STEP, TWICE, game_cards, games_before_and_after
from gmpo_vl.report.gather import read_summary
from gmpo_vl.runs import Run
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import append_jsonl

HOSTILE = "</pre><script>alert(1)</script>"


def turns_of(run: Run, level, episode: int, answers: list[str], said: str) -> list[SampleRecord]:
    """An episode's turns as a run records them. said: what stands before each answer."""
    game, found = GridWorld(level), []
    seen = game.reset(0)
    for number, answer in enumerate(answers, start=1):
        step = game.step(answer)
        turn = {
            "episode": episode,
            "number": number,
            "action": step.action,
            "reward": step.reward,
            "penalty": step.penalty,
        }
        found.append((run.add_image(np.array(seen.images[0])), answer, turn, step))
        seen = step.observation
    won = bool(found[-1][3].info["won"])
    return [
        SampleRecord(
            id=level.id,
            group=f"{level.id}@0",
            k=k,
            prompt=f"{level.problem}\n\nTurn {turn['number']}: <image>",
            images=[image],
            response=f"{said}{answer}",
            finished=True,
            gold="-",
            extracted=None,
            gold_type="unknown",
            correct=won,
            outcome="scored",
            reward={"overall": float(won), "accuracy": float(won)},
            seed=k,
            length=3,
            turn=turn,
        )
        for k, (image, answer, turn, _) in enumerate(found)
    ]


@pytest.fixture
def games(tmp_path) -> Run:
    """Two steps of four games: of the first two games of a step three episodes, of which one is won."""
    run = Run(tmp_path / "games").create()
    levels = make_examples("train", 4)
    for step in (1, 2):
        records = []
        for i, level in enumerate(levels):
            records += turns_of(run, level, 0, ["up", "jump"], HOSTILE)
            records += turns_of(run, level, 1, ["down"] * 3, "")
            if i > 1:
                records += turns_of(run, level, 2, level.answer.split(), "")
        run.write_rollouts(step, records)
        run.append_metrics(step, {"reward/accuracy": 0.2})
    return run


def test_a_run_s_page_has_curves_of_episodes_and_counts_them(games):
    """Two steps of 4 prompts x 3 episodes, 2.5 turns each; the second filtered, from 8 prompts."""
    names = "turns won valid cut too_long broken late".split()
    settings = "data: {rollout_batch_size: 4}\nworker: {rollout: {n: 3}}\n"
    (games.folder / "config.yaml").write_text(settings)
    games.metrics_file.unlink()
    for step, played in ((1, 4.0), (2, 8.0)):
        figures = {f"episode/{name}": 0.5 for name in names} | {"episode/turns": 2.5}
        of_step = {"filter/generated_prompts": played, "time/step": 1.0, "reward/overall": 1e300}
        games.append_metrics(step, figures | of_step | {"reward/accuracy": 0.2})
    page = write_report(games.folder).read_text()
    for title in ("Games won", "How episodes ended otherwise", "Turns", "Valid answers"):
        assert title in page
    assert "<b>36</b> episodes" in page
    assert "<b>90</b> turns" in page
    assert "rollouts</li>" not in page
    assert "of training episodes" in page
    assert "0" * 20 not in re.sub("sha256-[^']*|base64,[^\"]*", "", page)


def test_games_with_both_outcomes_come_first_with_an_episode_of_each(games):
    cards = game_cards(games)
    assert [card.step for card in cards] == [1] * GAMES_PER_STEP + [2] * GAMES_PER_STEP
    levels = make_examples("train", 4)
    assert [card.id for card in cards[:3]] == [levels[2].id, levels[3].id, levels[0].id]
    both, lost = cards[0], cards[2]
    assert (both.won, both.played, lost.won, lost.played) == (1, 3, 0, 2)
    won, other = both.episodes
    assert len(both.episodes) == EPISODES
    assert [turn.record.turn["action"] for turn in won] == levels[2].answer.split()
    assert [turn.record.turn["action"] for turn in other] == ["up", "none"]
    assert [turn.gain for turn in other] == [0.0, -0.1]
    assert won[-1].gain == 1.0
    assert all(str(turn.pictures[0]).startswith("data:image/webp") for turn in won)


def test_the_page_shows_turns_and_runs_nothing_that_an_answer_wrote(games):
    page = write_report(games.folder).read_text(encoding="utf-8")
    assert "<b>turn 1</b>" in page
    assert "1 of 3 won" in page
    assert "reward -0.100" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Rollouts</h2>" not in page  # turns are no questions


def test_a_picture_that_is_gone_is_said(games):
    for path in (games.folder / "images").iterdir():
        path.unlink()
    assert "picture missing" in write_report(games.folder).read_text(encoding="utf-8")


def test_a_summary_says_what_it_counts(games):
    (games.folder / "summary.json").write_text(
        json.dumps(
            {
                "what": "games won",
                "unit": "level",
                "before": 0.2,
                "after": 0.5,
                "diff_ci95": [0.2, 0.4],
                "questions": 256,
                "blank_image": 0.02,
                "wrong_game": 0.03,
                "random_moves": 0.01,
            }
        )
    )
    summary = read_summary(games.folder)
    assert summary is not None
    assert [name for name, _ in summary.controls] == [
        "the right picture",
        "another game's picture",
        "a blank picture",
        "no model: moves at random",
    ]
    page = write_report(games.folder).read_text(encoding="utf-8")
    assert "Share of games won" in page
    assert "paired by level (256 levels)" in page


def test_the_first_games_stand_before_and_after(games):
    levels = make_examples("test", TWICE + 1)
    for name, moves in (("before", ["up", "up"]), ("after", ["down"])):
        folder = games.folder / "eval" / name
        folder.mkdir(parents=True)
        records = [r for e in levels for k in (0, 1) for r in turns_of(games, e, k, moves[: 2 - k], name)]
        append_jsonl(folder / "samples.jsonl", [asdict(record) for record in records])
    twice = games_before_and_after(games)
    assert [game.id for game in twice] == [level.id for level in levels[:TWICE]]
    assert all(len(game.before) == 2 and len(game.after) == 1 for game in twice)  # episode 0 alone
    pairs = before_and_after(games)
    assert pairs is not None
    assert pairs.cards == []  # turns are no questions
    page = write_report(games.folder).read_text(encoding="utf-8")
    assert "The same games, before and after" in page
    assert page.index("before: ✗ not won, 2 turns") < page.index("after: ✗ not won, 1 turn")
