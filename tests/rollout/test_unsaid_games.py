"""Who never says `won` has lost where others say it, and what a game says is yes or no. No model: answers are
made up."""

import torch

from gmpo_vl.engines.answering import with_lost
from gmpo_vl.environments import Observation, Step
from gmpo_vl.environments.isolated import Isolation
from gmpo_vl.environments.loading import load_environment
from gmpo_vl.evaluation.games import alone
from gmpo_vl.rollout.episodes import Games, episode_figures, play, say_won
from gmpo_vl.types import Example, Group, Prompt, Response, Sampling

SAMPLING = Sampling(n=2, max_tokens=4)


class Rare:
    """Says `won` at a win alone. A row called `win...` is won at once, another goes on for points."""

    def __init__(self, example):
        self.wins = example.id.startswith("win")

    def reset(self, seed):
        return Observation("Go.")

    def step(self, answer):
        info = {"won": True} if self.wins else {}
        return Step(Observation("Go on."), 0.9, self.wins, False, info=info)

    def close(self):
        pass


class Vague(Rare):
    """Says what the row's answer says."""

    def __init__(self, example):
        self.said = {"no": {"won": "no"}, "unknown": {"won": None}, "text": {}}[example.answer]
        self.ends = "False" if example.answer == "text" else True

    def step(self, answer):
        return Step(Observation("Go on."), 0.0, self.ends, False, info=self.said)


def encode(turn):
    return Prompt(turn, turn.problem, torch.zeros(3), (), torch.zeros(0, 3), torch.zeros(3, 3))


def generate(prompts, positions, sampling):
    def answers():
        return [Response(torch.ones(1), torch.zeros(1), "go", True, 0) for _ in range(sampling.n)]

    return [Group(prompt.example.id, prompt, answers()) for prompt in prompts]


def played(name, rows, **known):
    games = Games(load_environment(f"{__file__}:{name}"), encode, 2, 0, 100, **known)
    return play(games, rows, [0] * len(rows), SAMPLING, generate)


def test_an_episode_that_never_said_won_is_lost_where_another_row_s_game_says_it():
    found = played("Rare", [Example("win", "Go.", "-"), Example("other", "Go.", "-")])
    assert [[score["accuracy"] for score in group.scores] for group in found.groups] == [[1, 1], [0, 0]]
    assert say_won(found.outcomes)
    assert episode_figures(found.outcomes)["episode/won"] == 0.5


def test_where_nobody_ever_said_it_there_is_no_accuracy_and_where_it_was_said_before_there_is():
    rows = [Example("other", "Go.", "-")]
    found = played("Rare", rows)
    assert all(score == {"overall": 1.8} for score in found.groups[0].scores)
    assert "episode/won" not in episode_figures(found.outcomes)
    assert with_lost(found.groups[0]).scores == [{"overall": 1.8, "accuracy": 0.0}] * 2
    found = played("Rare", rows, say_won=True)
    assert all(score == {"overall": 1.8, "accuracy": 0.0} for score in found.groups[0].scores)
    assert episode_figures(found.outcomes, says_won=True)["episode/won"] == 0


def test_in_an_evaluation_a_cut_episode_is_not_won_whatever_is_played_beside_it():
    rows = [Example("win", "Go.", "-"), Example("other", "Go.", "-")]
    together = played("Rare", rows)
    apart = [played("Rare", [row]) for row in rows]
    of_apart = [alone(one.groups[0].scores[0], one.outcomes[0]) for one in apart]
    of_together = [alone(together.groups[i].scores[0], together.outcomes[2 * i]) for i in range(2)]
    assert of_apart == of_together == [{"overall": 0.9, "accuracy": 1.0}, {"overall": 1.8, "accuracy": 0.0}]


def test_what_a_game_says_of_itself_is_yes_or_no_or_not_known():
    make = load_environment(f"{__file__}:Vague")

    def first_step(answer):
        game = make(Example("row", "Go.", answer))
        game.reset(1)
        return game.step("go")

    assert "info['won'] is 'no'; it must be True or False" in first_step("no").info["error"]
    assert "terminated is 'False'; it must be True or False" in first_step("text").info["error"]
    assert "error" not in first_step("unknown").info
    outcomes = played("Vague", [Example("row", "Go.", "unknown")]).outcomes
    assert [outcome.won for outcome in outcomes] == [None, None]


def test_the_games_of_an_isolated_class_that_changes_break_and_say_so(tmp_path):
    file = tmp_path / "mine.py"
    source = (
        "from gmpo_vl.environments import Observation, Step\n\n\nclass Mine:\n"
        "    def __init__(self, example):\n        pass\n\n"
        "    def reset(self, seed):\n        return Observation('old')\n\n"
        "    def step(self, answer):\n        return Step(Observation('old'), 1.0, True, False)\n\n"
        "    def close(self):\n        pass\n"
    )
    file.write_text(source)
    make = load_environment(f"{file}:Mine", isolate=Isolation(games=1))
    try:
        for text, seen in ((source, "old"), (source.replace("old", "new"), ""), ("def (", "")):
            file.write_text(text)
            game = make(Example("row", "Go.", "-"))
            assert game.reset(1).text == seen
            said = game.step("go").info.get("error", "")
            game.close()
            if text == source:
                assert said == ""
            elif "class" in text:
                assert "mine.py:Mine changed while its games are played" in said
            else:
                assert "the file cannot be loaded" in said
    finally:
        make.close()
