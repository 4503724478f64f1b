"""Games play alike here and in a process; one that breaks, is late or dies ends its episode, nothing else."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gmpo_vl.environments import Step
from gmpo_vl.environments.guarded import Guarded
from gmpo_vl.environments.isolated import Isolation
from gmpo_vl.environments.loading import load_environment
from gmpo_vl.types import Example

GAMES = str(Path(__file__).parent / "user_games.py")
ROW = Example("a", "ten \ud83d", "1", (b"a picture",), {"level": 3}, game="x" * 100_000)
PATIENCE = Isolation(deadline=3600.0)  # a loaded machine is no stuck game


def played(game, seed: int, answers: list[str]) -> list:
    """What a game shows and gives, without the number of its process."""
    found: list = [game.reset(seed)]
    for answer in answers:
        step = game.step(answer)
        found.append(replace(step, info={k: v for k, v in step.info.items() if k != "process"}))
    return found


@pytest.fixture(scope="module")
def isolated() -> Iterator:
    make = load_environment(f"{GAMES}:Breaks", isolate=PATIENCE)
    yield make
    make.close()


@pytest.fixture
def here():
    return load_environment(f"{GAMES}:Breaks", isolate=False)


ANSWERS = ["1", " two\n", "\ud83d <image>", "", "é" * 100_000]


def test_the_same_seed_and_answers_give_the_same_steps_in_a_process_and_here(isolated, here):
    games = [isolated(ROW), here(ROW)]
    expected = played(here(ROW), 5, ANSWERS)
    assert len({step.info["drawn"] for step in expected[1:]}) > 1
    for game in games * 2:
        assert played(game, 5, ANSWERS) == expected
        assert played(game, 6, ANSWERS) != expected
    for game in games:
        game.close()
    assert expected[1].observation.images[0].startswith(b"\x89PNG")
    assert expected[1].info["pair"] == [1, None]


@pytest.mark.parametrize("isolate", [False, PATIENCE])
def test_a_picture_that_is_a_file_is_what_it_was_when_it_was_given(isolate, tmp_path):
    file = tmp_path / "screen.png"
    make = load_environment(f"{GAMES}:Overwrites", {"file": str(file)}, isolate=isolate)
    game = make(ROW)
    first, second = game.reset(5), game.step("a long answer").observation
    assert second.images == (file.read_bytes(),)
    assert first.images[0].startswith(b"\x89PNG")
    assert first.images != second.images
    game.close()
    make.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("raise", "step raised KeyError: 'a lost key'"),
        ("exit", "step raised SystemExit"),
        ("nothing", "step raised TypeError: a Step was due, not a NoneType"),
        ("tags", "step raised ValueError: 2 <image> tags for 1 images"),
        ("nan", "step raised ValueError: reward=nan is not a finite number"),
        ("info", "step raised TypeError: info['game'] is a Breaks; info holds texts"),
    ],
)
def test_what_it_raises_ends_its_episode_and_the_next_one_is_sound(isolated, here, answer, said):
    for make in (isolated, here):
        game = make(ROW)
        game.reset(5)
        before = game.step("1")
        for _ in range(2):  # whoever goes on gets the same
            last = game.step(answer)
            assert isinstance(last, Step)
            assert (last.terminated, last.truncated, last.reward) == (False, True, 0.0)
            assert last.info["error"].startswith(said)
            assert last.observation == before.observation
        assert played(game, 5, ANSWERS) == played(here(ROW), 5, ANSWERS)
        game.close()
        assert "after close" in game.step("1").info["error"]


def test_a_reset_that_raises_is_told_by_the_first_step(isolated, here):
    for make in (isolated, here):
        game = make(ROW)
        assert game.reset(13).text == ""
        said = "reset raised RuntimeError: no luck today (user_games.py, line 59)"
        assert game.step("1").info == {"error": said}
        assert game.reset(14).text != ""
        game.close()


def test_a_class_that_comes_from_no_file_ends_its_episode_too():
    cls = type("Typed", (), {"__module__": "nowhere", "reset": lambda self, seed: 1 / 0})
    game = Guarded(cls, cls)
    assert game.reset(1).text == ""
    assert game.step("1").info == {"error": "reset raised ZeroDivisionError: division by zero"}


@pytest.mark.parametrize("isolate", [False, PATIENCE])
def test_a_class_that_cannot_be_made_is_told_by_its_name(isolate):
    for settings, said, line in (
        ({}, "OSError: no board for a", 92),
        ({"code": 3}, "SystemExit: 3", 91),
    ):
        make = load_environment(f"{GAMES}:NeverMade", settings, isolate=isolate)
        game = make(ROW)
        assert game.reset(1).text == ""
        where = f"user_games.py, line {line}"
        assert game.step("1").info == {"error": f"NeverMade(example, ...) raised {said} ({where})"}
        game.close()
        make.close()


def test_an_interrupt_in_a_game_still_interrupts(here):
    game = here(ROW)
    game.reset(5)
    with pytest.raises(KeyboardInterrupt):
        game.step("interrupt")


def test_one_that_never_answers_is_killed_and_told_late():
    make = load_environment(f"{GAMES}:Breaks", isolate=Isolation(deadline=0.5))
    game = make(ROW)
    while not game.reset(5).text:  # half a second may be short for a reset on a loaded machine
        pass
    pid = process_of(game)
    last = game.step("wait")
    assert last.truncated
    assert last.info == {"error": "no reply within 0.5 s: its process was killed", "late": True}
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    make.close()


def process_of(game) -> int:
    return game._process._program.pid


def test_a_game_whose_process_dies_ends_and_another_process_takes_the_next(isolated, here):
    game, other = isolated(ROW), isolated(ROW)
    game.reset(5)
    beside = [other.reset(5)]
    dead = process_of(game)
    assert game.step("die").info == {"error": "its process ended (SIGKILL)", "late": False}
    beside += [other.step(answer) for answer in ANSWERS]
    assert [step.info["drawn"] for step in beside[1:]] == [
        step.info["drawn"] for step in played(here(ROW), 5, ANSWERS)[1:]
    ]
    assert played(game, 5, ANSWERS) == played(here(ROW), 5, ANSWERS)
    assert process_of(game) != dead
    os.kill(process_of(other), signal.SIGKILL)
    assert other.step("1").info["error"] == "its process ended (SIGKILL)"
    game.close()
    other.close()


def test_a_process_is_used_again_and_replaced_after_its_games():
    make = load_environment(f"{GAMES}:Isolated")  # two games a process
    seen = []
    for _ in range(4):
        game = make(ROW)
        game.reset(1)
        seen.append(process_of(game))
        assert game.step("1").info["process"] == seen[-1]
        game.close()
    assert seen[0] == seen[1] != seen[2] == seen[3]
    make.close()


def test_closing_ends_the_processes_that_wait_and_the_games_that_are_played():
    make = load_environment(f"{GAMES}:Isolated")
    playing, waiting = make(ROW), make(ROW)
    for game in (playing, waiting):
        game.reset(1)
    pids = [process_of(playing), process_of(waiting)]
    waiting.close()
    make.close()
    assert playing.step("1").info == {"error": "its process ended (SIGKILL)", "late": False}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert playing.reset(1).text != ""
    playing.close()
    make.close()


def test_a_process_that_died_while_it_waited_costs_no_episode():
    make = load_environment(f"{GAMES}:Isolated")
    game = make(ROW)
    game.reset(1)
    process = game._process
    game.close()
    os.kill(process._program.pid, signal.SIGKILL)
    process._program.wait()
    assert game.reset(1) == load_environment(f"{GAMES}:Isolated", isolate=False)(ROW).reset(1)
    make.close()


def test_a_reply_that_nobody_waited_for_is_not_taken_for_the_next_one(isolated, here):
    game = isolated(ROW)
    game.reset(5)
    game._process._lines.send({"number": 0, "reset": 77}, float("inf"))
    game._process._lines.send({"number": 0, "step": "1"}, float("inf"))
    assert played(game, 5, ANSWERS) == played(here(ROW), 5, ANSWERS)
    game.close()


def test_an_interrupt_while_it_waits_ends_the_process_and_not_the_next_game(isolated, here, monkeypatch):
    game = isolated(ROW)
    game.reset(5)
    pid = process_of(game)
    lines = game._process._lines
    monkeypatch.setattr(lines, "receive", lambda until: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        game.step("1")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert played(game, 5, ANSWERS) == played(here(ROW), 5, ANSWERS)
    game.close()


def test_games_are_played_from_several_threads_at_once(isolated, here):
    found: dict[int, list] = {}

    def play(seed: int) -> None:
        game = isolated(ROW)
        found[seed] = played(game, seed, ANSWERS)
        game.close()

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {seed: played(here(ROW), seed, ANSWERS) for seed in range(3)}


def test_an_isolation_that_cannot_be_is_refused():
    for wrong in ({"deadline": 0}, {"games": 0}):
        with pytest.raises(ValueError, match="isolation needs a deadline above 0"):
            Isolation(**wrong)
