"""Games in lock step, with the tiny model itself: what is drawn does not depend on what is played beside
it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gmpo_vl.config import AlgorithmConfig
from gmpo_vl.data.rows import RowError
from gmpo_vl.engines.advantages import fill_advantages
from gmpo_vl.engines.collect import Collected, group_metrics
from gmpo_vl.environments import Observation, Step
from gmpo_vl.environments.gridworld import make_examples
from gmpo_vl.environments.loading import load_environment
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.rollout.episodes import Games, episode_figures, first_turns, name_of, play, reasons
from gmpo_vl.rollout.hf import generate
from gmpo_vl.rollout.scoring import to_records
from gmpo_vl.rollout.seeds import game_seed, sample_seed, turn_name
from gmpo_vl.samples import episodes
from gmpo_vl.types import Example, Sampling

GAMES = Path(__file__).parents[1] / "engines/playing_games.py"
ROWS = [Example(f"row {i}", "Walk on.", "-") for i in range(4)]
SAMPLING = Sampling(n=3, max_tokens=6, seed=5)


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    model, processor = load_model(tiny_folder), load_processor(tiny_folder)
    asked = []

    def sample(prompts, positions, sampling):
        asked.append((list(prompts), list(positions), sampling.n))
        return generate(model, processor, prompts, sampling, positions)

    return SimpleNamespace(sample=sample, asked=asked, encode=lambda turn: encode_prompt(turn, processor))


@pytest.fixture
def games(tiny):
    def of(name: str, max_turns: int = 5, longest: int = 400, history: int = 2, **settings) -> Games:
        name = name if name == "gridworld" else f"{GAMES}:{name}"
        return Games(load_environment(name, settings), tiny.encode, max_turns, history, longest)

    tiny.asked.clear()
    return of


def drawn(played):
    """Everything of the groups but log-probs, whose last digits depend on padding."""
    return [
        (
            group.key,
            group.scores,
            [
                (
                    answer.ids_T.tolist(),
                    answer.seed,
                    {k: v for k, v in vars(answer.turn).items() if k != "prompt"},
                    group.prompt_of(k).text,
                )
                for k, answer in enumerate(group.responses)
            ],
        )
        for group in played.groups
    ]


@pytest.mark.parametrize("name", ["Walk", "Apart"])
def test_neither_splitting_nor_order_nor_processes_change_what_is_drawn(tiny, games, name):
    done: list[int] = []
    whole = play(games("Walk"), ROWS, range(4), SAMPLING, tiny.sample, done.append)
    assert sum(done) == 4
    again = games(name)
    parts = [play(again, [ROWS[i]], [i], SAMPLING, tiny.sample) for i in (3, 1, 0, 2)]
    again.make.close()
    assert drawn(whole) == [drawn(parts[i])[0] for i in (2, 1, 3, 0)]
    assert len({outcome.turns for outcome in whole.outcomes}) > 1, "episodes of one length show nothing"


def test_another_position_or_seed_is_another_game(tiny, games):
    of = games("Walk")
    first = play(of, ROWS[:1], [0], SAMPLING, tiny.sample)
    for positions, sampling in (([7], SAMPLING), ([0], replace(SAMPLING, seed=6))):
        assert drawn(play(of, ROWS[:1], positions, sampling, tiny.sample)) != drawn(first)


def test_finished_episodes_are_asked_no_more_and_seeds_name_row_episode_and_turn(tiny, games):
    played = play(games("Walk"), ROWS, range(4), SAMPLING, tiny.sample)
    first, *later = tiny.asked
    assert first[1:] == ([0, 1, 2, 3], 3)
    assert [prompt.example.id for prompt in first[0]] == [row.id for row in ROWS]
    turns = [answer.turn for group in played.groups for answer in group.responses]
    for number, (prompts, positions, n) in enumerate(later, start=2):
        assert n == 1
        assert len(prompts) == len(positions) == sum(turn.number == number for turn in turns)
    for position, group in enumerate(played.groups):
        assert [(a.turn.episode, a.turn.number) for a in group.responses] == sorted(
            (a.turn.episode, a.turn.number) for a in group.responses
        )
        for answer in group.responses:
            at, row = answer.turn, ROWS[position].id
            expected = (row, at.episode) if at.number == 1 else (turn_name(row, at.episode, at.number), 0)
            assert answer.seed == sample_seed(5, expected[0], position, expected[1])


def test_rows_whose_ids_have_slashes_share_no_seed_with_another_row_s_turns(tiny, games):
    rows = [replace(ROWS[0], id=name) for name in ("a", "a/0/2")]
    played = play(games("Walk"), rows, [0, 0], SAMPLING, tiny.sample)
    seeds = [answer.seed for group in played.groups for answer in group.responses]
    assert any(answer.turn.number > 1 for answer in played.groups[0].responses)
    assert len(set(seeds)) == len(seeds)


def test_equal_turns_of_a_group_are_one_prompt_that_is_encoded_once(tiny, games):
    encoded = []

    def encode(turn):
        encoded.append(turn)
        return tiny.encode(turn)

    of = replace(games("Walk", history=0), encode=encode)
    played = play(of, ROWS, range(4), SAMPLING, tiny.sample)
    for group in played.groups:
        assert len({id(answer.turn.prompt) for answer in group.responses if answer.turn.number == 1}) == 1
        assert group.prompt is group.responses[0].turn.prompt
        assert group.prompt.example.id == group.key.partition("@")[0]
        shown = {(prompt.text, prompt.pictures_key) for prompt in group.prompts}
        assert len(shown) == len(group.prompts)
    assert len(encoded) == sum(len(group.prompts) for group in played.groups)
    assert sum(len(group.prompts) for group in played.groups) < sum(o.turns for o in played.outcomes)


def test_scores_are_of_episodes_and_figures_of_episodes_and_turns(tiny, games):
    played = play(games("Walk"), ROWS, range(4), SAMPLING, tiny.sample)
    turns = [answer.turn for group in played.groups for answer in group.responses]
    scores = [score for group in played.groups for score in group.scores]
    assert len(scores) == len(played.outcomes) == 12
    assert all(score["overall"] == score["accuracy"] for score in scores)
    assert {score["accuracy"] for score in scores} == {0.0, 1.0}
    figures = episode_figures(played.outcomes)
    assert figures["episode/turns"] == len(turns) / 12
    assert figures["episode/won"] == sum(turn.reward for turn in turns) / 12
    assert figures["episode/valid"] == pytest.approx(sum(t.penalty == 0 for t in turns) / len(turns))
    tokens = [len(answer.ids_T) for group in played.groups for answer in group.responses]
    assert figures["episode/length"] == sum(tokens) / 12
    assert episode_figures([]) == {}


def test_a_game_that_does_not_end_is_cut(tiny, games):
    played = play(games("Walk", max_turns=1), ROWS, range(4), SAMPLING, tiny.sample)
    kinds = [outcome.ending.kind for outcome in played.outcomes]
    assert kinds.count("cut") > kinds.count("over")
    assert all(outcome.turns == 1 for outcome in played.outcomes)
    assert len(tiny.asked) == 1


def test_a_game_that_breaks_ends_its_own_episode(tiny, games):
    played = play(games("Breaks"), ROWS, range(4), SAMPLING, tiny.sample)
    broken = [outcome for outcome in played.outcomes if outcome.ending.kind == "broken"]
    assert 0 < len(broken) < 12
    assert list(reasons(played.outcomes)) == [
        "step raised KeyError: 'a lost key' (playing_games.py, line 107)"
    ]
    assert episode_figures(played.outcomes)["episode/broken"] == len(broken) / 12
    scores = [score for group in played.groups for score in group.scores]
    for outcome, score in zip(played.outcomes, scores, strict=True):
        if outcome.ending.kind == "broken":
            assert score == {"overall": 0.0, "unscored": 1.0}
        else:
            assert score.keys() == {"overall", "accuracy"}


def test_how_an_episode_ended_is_in_the_record_of_its_last_turn(tiny, games):
    for name, longest in (("Breaks", 400), ("Long", 120)):
        played = play(games(name, longest=longest), ROWS, range(4), SAMPLING, tiny.sample)
        of_episodes = episodes(to_records(played.groups, lambda _: ""))
        for turns, outcome in zip(of_episodes, played.outcomes, strict=True):
            assert not any("ending" in turn.turn for turn in turns[:-1])
            assert turns[-1].turn["ending"] == outcome.ending.kind
            assert turns[-1].turn["reason"] == outcome.ending.reason
        assert any(outcome.ending.reason for outcome in played.outcomes)


def test_a_game_that_said_it_was_won_and_then_broke_is_not_counted_as_won(tiny, games):
    played = play(games("WonThenBreaks"), ROWS[:2], [0, 1], SAMPLING, tiny.sample)
    kinds = [outcome.ending.kind for outcome in played.outcomes]
    assert 0 < kinds.count("broken") < 6
    assert [o.won for o in played.outcomes] == [None if kind == "broken" else True for kind in kinds]
    assert episode_figures(played.outcomes)["episode/won"] == 1.0
    scores = [score for group in played.groups for score in group.scores]
    assert [score.get("accuracy") for score in scores] == [o.won for o in played.outcomes]


class BreaksThird:
    """Won at once, but the third game that is made breaks at its first step."""

    made = 0

    def __init__(self, example):
        BreaksThird.made += 1
        self.breaks = BreaksThird.made == 3

    def step(self, answer):
        if self.breaks:
            raise OSError("a simulator is gone")
        return Step(Observation(""), 1.0, True, False, info={"won": True})

    def reset(self, seed):
        return Observation("A board.")

    def close(self):
        pass


def test_a_game_that_broke_is_not_trained_on_and_changes_no_other(tiny, games):
    of = games("Walk")
    of = replace(of, make=replace(of.make, cls=BreaksThird))
    groups = play(of, ROWS[:1], [0], SAMPLING, tiny.sample).groups
    fill_advantages(groups, AlgorithmConfig())
    assert groups[0].advantages_G.tolist() == [0.0, 0.0, 0.0], "two won games have nothing between them"
    assert [score.get("unscored", 0.0) for score in groups[0].scores] == [0.0, 0.0, 1.0]
    collected = Collected(groups, 1)
    figures = group_metrics(collected)
    assert figures["reward/unscored"] == pytest.approx(1 / 3)
    assert figures["reward/overall"] == figures["reward/accuracy"] == 1.0


def test_a_game_that_never_begins_has_an_answered_turn_that_shows_its_task(tiny, games):
    played = play(games("NeverBegins"), ROWS[:2], [0, 1], SAMPLING, tiny.sample)
    assert [outcome.turns for outcome in played.outcomes] == [1] * 6
    assert {o.ending.reason for o in played.outcomes} == {
        "reset raised OSError: no board (playing_games.py, line 113)"
    }
    for group in played.groups:
        assert len(group.prompts) == 1
        assert "Walk on." in group.prompt.text
        assert group.scores == [{"overall": 0.0, "unscored": 1.0}] * 3


def test_a_game_that_is_late_ends_its_own_episode(tiny, games):
    of = games("Sleeps")
    played = play(of, ROWS[:2], [0, 1], SAMPLING, tiny.sample)
    of.make.close()
    kinds = [outcome.ending.kind for outcome in played.outcomes]
    assert "late" in kinds
    assert set(kinds) > {"late"}
    assert episode_figures(played.outcomes)["episode/late"] == kinds.count("late") / 6
    unscored = [score.get("unscored", 0.0) for group in played.groups for score in group.scores]
    assert unscored == [float(kind == "late") for kind in kinds]


@pytest.mark.parametrize("size", [None, (600, 2)], ids=["not a picture", "too flat"])
def test_a_picture_that_cannot_be_shown_ends_its_own_episode(tiny, games, size):
    of = games("Flat", size=size)
    played = play(of, ROWS, range(4), SAMPLING, tiny.sample)
    kinds = [outcome.ending.kind for outcome in played.outcomes]
    assert 0 < kinds.count("broken") < 12
    assert all(" cannot be shown: " in o.ending.reason for o in played.outcomes if o.ending.kind == "broken")


def test_a_text_that_no_prompt_can_be_made_of_ends_its_own_episode(tiny, games):
    def encode(turn):
        if "Turn 2" in turn.problem:
            raise ValueError("the chat template leaves out the problem's text")
        return tiny.encode(turn)

    played = play(replace(games("Walk"), encode=encode), ROWS[:1], [0], SAMPLING, tiny.sample)
    reasons = [outcome.ending.reason for outcome in played.outcomes if outcome.ending.kind == "broken"]
    assert reasons
    assert all("leaves out the problem's text" in reason for reason in reasons)


def test_a_prompt_that_is_too_long_ends_its_episode(tiny, games):
    played = play(games("Long", longest=120), ROWS, range(4), SAMPLING, tiny.sample)
    assert {outcome.ending.kind for outcome in played.outcomes} == {"too_long"}
    (said,) = reasons(played.outcomes).values()
    assert said.startswith("the game of row 0 ended: turn ")
    assert said.endswith("tokens, data.max_prompt_length is 120")
    assert all(len(prompt.ids_P) <= 120 for group in played.groups for prompt in group.prompts)
    assert all(outcome.turns > 0 for outcome in played.outcomes)


def test_where_the_first_prompt_is_too_long_its_task_is_shown_and_no_step_asked(tiny, games):
    played = play(games("LongAtOnce", longest=120), ROWS[:1], [0], SAMPLING, tiny.sample)
    assert [outcome.ending.kind for outcome in played.outcomes] == ["too_long"] * 3
    (group,) = played.groups
    assert "Dark" not in group.prompt.text
    assert len(group.responses) == 3
    assert {answer.turn.action for answer in group.responses} == {""}
    task = "x" * 2000
    with pytest.raises(ValueError, match="not even without what is seen"):
        play(games("LongAtOnce", longest=120), [replace(ROWS[0], problem=task)], [0], SAMPLING, tiny.sample)


class Flaky:
    """Begins once of three times: a group whose episodes show different things at the first turn."""

    made = 0

    def __init__(self, example):
        Flaky.made += 1
        self.breaks = Flaky.made % 3 == 1

    def reset(self, seed):
        if self.breaks:
            raise OSError("no board")
        return Observation("A board.")

    def step(self, answer):
        return Step(Observation(""), 1.0, True, False)

    def close(self):
        pass


def test_an_episode_that_broke_at_its_start_leaves_its_group_alone(tiny, games):
    of = games("Walk")
    of = replace(of, make=replace(of.make, cls=Flaky))
    (group,) = play(of, ROWS[:1], [0], SAMPLING, tiny.sample).groups
    assert ["A board." in prompt.text for prompt in group.prompts] == [False, True]
    assert [score["overall"] for score in group.scores] == [0.0, 1.0, 1.0]
    assert [answer.seed for answer in group.responses[1:]] == [
        sample_seed(5, turn_name("row 0", k, 1), 0, 0) for k in (1, 2)
    ]


@pytest.mark.parametrize("name", ["Walk", "Apart"])
def test_games_are_closed_where_sampling_is_interrupted(tiny, games, name):
    of, made = games(name), []

    def make(row):
        made.append(of.make(row))
        return made[-1]

    watched = SimpleNamespace(processes=of.make.processes, template=of.make.template, close=of.make.close)
    counted = replace(of, make=_Calls(make, watched))

    def stop(prompts, positions, sampling):
        if sampling.n == 1:
            raise SystemExit(143)
        return tiny.sample(prompts, positions, sampling)

    with pytest.raises(SystemExit):
        play(counted, ROWS, range(4), SAMPLING, stop)
    assert len(made) == 12
    for game in made:
        assert game.step("x").info["error"] == "step was called after close"
    if of.make.processes is not None:
        assert not of.make.processes._all


class _Calls:
    """An EnvironmentMaker that notes its games."""

    def __init__(self, make, of):
        self._make, self.processes, self.template, self.close = make, of.processes, of.template, of.close

    def __call__(self, row):
        return self._make(row)


def test_the_grid_world_is_played_by_its_pictures(tiny, games):
    rows = make_examples("train", 3)
    of = games("gridworld", max_turns=4)
    played = play(of, rows, range(3), SAMPLING, tiny.sample)
    for group in played.groups:
        for k, answer in enumerate(group.responses):
            assert len(group.prompt_of(k).images) == min(answer.turn.number, 3)  # the last two, and now
            assert answer.turn.seen
    assert drawn(played) == drawn(play(of, rows, range(3), SAMPLING, tiny.sample))


def test_a_picture_that_several_turns_show_is_held_once(tiny, games):
    played = play(games("gridworld", max_turns=4), make_examples("train", 3), range(3), SAMPLING, tiny.sample)
    images = [image for group in played.groups for prompt in group.prompts for image in prompt.images]
    different = {(image.shape, image.numpy().tobytes()) for image in images}
    assert len({id(image) for image in images}) == len(different) < len(images)


def test_what_a_turn_saw_is_named_by_text_pictures_and_actions():
    seen = Observation("a <image>", (b"1",), ("go",))
    assert name_of(seen) == name_of(replace(seen))
    others = [replace(seen, text="b <image>"), replace(seen, images=(b"2",)), replace(seen, actions=())]
    assert len({name_of(seen), *map(name_of, others)}) == 4


def test_first_turns_are_made_without_a_model_and_say_what_breaks(games):
    walk, never = games("Walk").make, games("NeverBegins").make
    turns = list(first_turns(walk, ROWS, 5))
    assert [turn.id for turn in turns] == [row.id for row in ROWS]
    assert all("Room" in turn.problem and len(turn.images) == 1 for turn in turns)
    (fault,) = first_turns(never, ROWS[:1], 5)
    assert isinstance(fault, RowError)
    assert (fault.reason, str(fault)) == (
        "game_broken",
        "reset raised OSError: no board (playing_games.py, line 113)",
    )


def test_first_turns_that_are_half_read_end_no_game_that_is_played(games):
    make = games("Apart").make
    played = make(ROWS[0])
    played.reset(5)
    turns = first_turns(make, ROWS[1:3], 5)
    next(turns)
    turns.close()
    assert "error" not in played.step("a").info
    played.close()
    make.close()


def test_a_games_seed_is_small_and_of_run_row_and_position():
    seeds = {game_seed(*of) for of in ((1, "a", 0), (1, "a", 1), (1, "b", 0), (2, "a", 0))}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)
