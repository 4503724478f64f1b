"""The grid world: the state stands in the picture alone, levels can be solved, and the expert searches."""

import io
import random
from collections import Counter
from dataclasses import replace

import pytest
from PIL import Image, ImageChops

from gmpo_vl.data.examples import load_examples
from gmpo_vl.environments.gridworld import (
    CELL,
    MOVES,
    SHARES,
    SHORTEST,
    SIZE,
    GridWorld,
    action_of,
    draw_levels,
    expert,
    export,
    level_of,
    make_examples,
    solution,
    split_of,
)
from gmpo_vl.environments.loading import load_environment
from gmpo_vl.environments.turns import turn_example
from gmpo_vl.types import Example

LEVEL = "red D... ..## .g#. .rA."


def world(level: str = LEVEL, **settings) -> GridWorld:
    return GridWorld(Example("a", level_of(level).task, "-", game=level), **settings)


def play(game: GridWorld, *moves: str) -> list:
    return [game.reset(0), *(game.step(move) for move in moves)]


def picture(step) -> Image.Image:
    return getattr(step, "observation", step).images[0]


def test_the_key_and_then_the_door_win():
    first, *steps = play(world(), "left", "left", "up", "up", "up")
    assert picture(first).size == (SIZE * CELL, SIZE * CELL) == (112, 112)
    assert [step.terminated for step in steps] == [False] * 4 + [True]
    assert [step.reward for step in steps] == [0.0] * 4 + [1.0]
    assert steps[-1].info == {"won": True, "valid": True}
    assert all(step.penalty == 0 for step in steps)


def test_the_door_without_the_key_does_nothing_and_the_wrong_key_loses():
    way = ["up", "left", "left"]
    *_, at_door = play(world("red .D.. .gA. ..#r ...."), "left")
    assert at_door.terminated
    assert (at_door.reward, at_door.info["won"]) == (0.0, False)
    *_, at_door = play(world("red DA.. .... ...g ...r"), "left")
    assert not at_door.ended
    *_, back = play(world("red DA.. .... ...g ...r"), *way)
    assert back.reward == 0


def test_walls_and_the_edge_change_nothing_and_no_move_costs():
    start, wall, edge, none = play(world(), "up", "down", "<action>jump</action>")
    assert picture(start) == picture(wall) == picture(edge) == picture(none)
    assert (wall.action, wall.penalty, wall.info["valid"]) == ("up", 0.0, True)
    assert (none.action, none.penalty, none.info["valid"]) == ("none", 0.1, False)


def test_how_an_answer_is_read():
    assert action_of(" Up\n") == "up"
    assert action_of("<action>left</action> no, <action> Right </action>") == "right"
    assert action_of("I go up") is None
    assert action_of("") is None


def test_the_text_says_nothing_of_the_state():
    texts = {
        getattr(step, "observation", step).text for step in play(world(), "left", "left", "up", "jump", "up")
    }
    assert texts == {"<image>"}
    assert level_of(LEVEL).task == "Take the red key to the door."


def test_cells_are_hidden_until_the_player_was_near():
    game = world()
    game.reset(0)
    assert game.seen == ("????", "????", "?g#.", "?r..")
    game.step("left")
    assert game.seen == ("????", "????", ".g#.", "....")
    assert game.has_key
    far = world("red D... ..## .g#. .rA.", view=3)
    far.reset(0)
    assert far.seen == ("D...", "..##", ".g#.", ".r..")


def test_every_state_that_differs_for_the_player_has_another_picture():
    shown = play(world(), "left", "left", "up", "up", "up")
    pictures = [picture(step).tobytes() for step in shown]
    assert len(set(pictures)) == len(pictures)
    there, back = play(world(), "right", "left")[0::2]
    assert ImageChops.difference(picture(there), picture(back)).getbbox() is None
    other = play(world(LEVEL.replace("r", "b").replace("bed", "blue")))[0]
    assert picture(other) != picture(shown[0])


def test_levels_are_solvable_by_their_answer_within_their_length():
    for example in make_examples("train", 60):
        game = GridWorld(example)
        *_, last = play(game, *example.answer.split())
        assert last.info["won"]
        assert example.meta["moves"] == len(example.answer.split()) in SHORTEST
        assert example.problem == game.level.task
        assert str(game.level) == example.game


def test_a_seed_gives_the_same_levels_and_splits_share_none():
    levels = {split: {e.game for e in make_examples(split, 80, seed=3)} for split in SHARES}
    assert levels["train"] == {e.game for e in make_examples("train", 80, seed=3)}
    assert levels["train"] != {e.game for e in make_examples("train", 80, seed=4)}
    assert len(set().union(*levels.values())) == 4 * 80
    assert all(split_of(level_of(game)) == split for split, games in levels.items() for game in games)
    assert Counter(e.problem for e in make_examples("train", 80)).most_common(1)[0][1] < 40


def test_the_expert_wins_within_its_turns_and_knows_no_more_than_the_picture():
    """It takes longer than who knows the level, since it searches; no move of it depends on a hidden cell."""
    rng, turns, shortest = random.Random(0), [], []
    for example in make_examples("train", 80):
        game = GridWorld(example)
        game.reset(0)
        count, won = 0, False
        while not won:
            count += 1
            _, move = expert(game.seen, game.at, None if game.has_key else game.level.key, rng)
            step = game.step(move)
            won = step.info["won"]
            assert won or not step.ended
        turns.append(count)
        shortest.append(example.meta["moves"])
    assert sum(turns) > 1.2 * sum(shortest)
    assert sum(count <= 15 for count in turns) > 60


def test_moves_at_random_hardly_ever_win():
    rng, won = random.Random(1), 0
    for example in make_examples("test", 200):
        game = GridWorld(example)
        game.reset(0)
        for _ in range(15):
            step = game.step(rng.choice(list(MOVES)))
            if step.ended:
                break
        won += step.info["won"]
    assert won <= 20


def test_a_level_without_a_way_is_none():
    assert solution(level_of("red A#D. ##.r ...# ..#.")) is None
    assert solution(level_of("red A.rD .... .... ....")) == ["right", "right", "right"]
    assert next(draw_levels("train", size=5)).rows[0] != ""


@pytest.mark.parametrize(
    "game", ["", "red", "pink A.Dp", "red A.D", "red A.Dr .A..", "red A.Dr ..", "red AxDr"]
)
def test_what_is_no_level_is_told(game):
    with pytest.raises(ValueError, match="is no level of the grid world"):
        level_of(game)


def test_rows_in_a_file_play_as_they_were_made(tmp_path):
    paths = export(tmp_path, {"train": 5, "test": 3})
    assert [path.name for path in paths] == ["train.parquet", "test.parquet"]
    read = list(load_examples(str(paths[0])))
    assert [replace(example, meta={}) for example in read] == [
        replace(example, meta={}) for example in make_examples("train", 5)
    ]
    make = load_environment("gridworld")
    turn = turn_example(read[0], [], make(read[0]).reset(0), 2, make.template)
    assert turn.problem.endswith("\n\nTurn 1: <image>\nPossible actions: up, down, left, right")
    assert Image.open(io.BytesIO(turn.images[0])).size == (112, 112)


def test_the_same_moves_give_the_same_steps_in_a_process_too():
    example = make_examples("train", 1)[0]
    played = []
    for isolate in (False, True):
        make = load_environment("gridworld", isolate=isolate)
        game = make(example)
        played.append([game.reset(0), *(game.step(move) for move in (*example.answer.split(), "up"))])
        make.close()
    assert played[0] == played[1]
