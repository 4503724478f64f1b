"""Runs that play games on engine local: what a one-turn game gives is today's run, and nothing is lost."""

import hashlib
import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import BASE

from gmpo_vl.cli import main
from gmpo_vl.config import load_config
from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import BadRowsError
from gmpo_vl.data.writing import write_splits
from gmpo_vl.engines import loop, validation
from gmpo_vl.engines.checkpoint import group_from, group_state
from gmpo_vl.engines.fingerprint import fingerprint_of
from gmpo_vl.engines.local.engine import train
from gmpo_vl.engines.session import Stopped
from gmpo_vl.environments.gridworld import export, make_examples
from gmpo_vl.models.loading import load_model
from gmpo_vl.rollout.episodes import Episode, play
from gmpo_vl.rollout.hf import generate
from gmpo_vl.runs import Run
from gmpo_vl.setup import (
    games_of,
    load_configured_environment,
    load_configured_processor,
    load_split,
    sampling_of,
)
from gmpo_vl.storage.tensors import read_saved
from gmpo_vl.study.runner import PRELOADED
from gmpo_vl.types import Group

GAMES = Path(__file__).parent / "playing_games.py"
SURPLUS = [
    "algorithm.online_filtering=true",
    "data.mini_rollout_batch_size=6",
    "trainer.max_try_make_batch=10",
]
TEXT = ["environment.settings={pictures: false}"]


def figures(run: Run) -> list[dict]:
    """All metrics but those of time, memory and speed."""
    skip = ("time/", "memory/", "perf/")
    return [{k: v for k, v in line.items() if not k.startswith(skip)} for line in run.read_metrics()]


def weights(run: Run) -> dict[str, torch.Tensor]:
    (path,) = (run.checkpoint(run.checkpoint_steps()[-1]) / "huggingface").glob("*.safetensors")
    return load_file(path)


def same_weights(one: Run, other: Run) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def levels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("levels")
    export(folder, {"train": 24, "validation": 4})
    return folder


@pytest.fixture
def settings(tmp_path, levels, tiny_folder):
    """A run that plays, as a.b=c."""

    def of(name: str, folder: str = "run") -> list[str]:
        (tmp_path / "run.yaml").write_text(BASE)
        return [
            f"data.train_files={levels / 'train.parquet'}",
            f"data.val_files={levels / 'validation.parquet'}",
            "data.max_prompt_length=300",
            f"worker.actor.model.model_path={tiny_folder}",
            "worker.rollout.val_override_config={temperature: 0.4}",
            f"trainer.save_checkpoint_path={tmp_path / folder}",
            f"environment.name={name if name == 'gridworld' else f'{GAMES}:{name}'}",
            "environment.max_turns=4",
        ]

    return of


@pytest.fixture
def config_of(tmp_path, settings):
    def make(name: str, *more: str, folder: str = "run"):
        return load_config(tmp_path / "run.yaml", [*settings(name, folder), *more])

    return make


@pytest.mark.parametrize("trusted", [False, True])
def test_a_game_of_one_turn_is_todays_run_to_the_last_digit(
    make_config, config_file, overrides, tmp_path, trusted
):
    more = ["worker.actor.old_log_probs=rollout"] if trusted else []
    plain = train(make_config(*more, f"trainer.save_checkpoint_path={tmp_path / 'plain'}"))
    without_reward = [setting for setting in overrides if "reward_function" not in setting]
    once = train(load_config(config_file, [*without_reward, *more, f"environment.name={GAMES}:Once"]))
    assert same_weights(plain, once)
    for before, now in zip(figures(plain), figures(once), strict=True):
        more_now = {name for name in now if name not in before}
        assert all("episode/" in name for name in more_now)
        assert {name: now[name] for name in before} == before
    for step in range(1, 5):
        for one, other in zip(plain.read_rollouts(step), once.read_rollouts(step), strict=True):
            assert other.turn["number"] == 1
            assert one == replace(other, turn={})


def killed(arguments: list[str]) -> None:
    """The command line with a SIGKILL in a second turn, in a step to which groups were carried over."""
    torch.set_num_threads(1)
    save, take, carried = loop.save_checkpoint, Episode.take, []

    def save_and_note(run, progress, *of):
        save(run, progress, *of)
        carried.extend(progress.carried)

    def take_and_die(self, *of):
        take(self, *of)
        if carried and len(self.turns) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.save_checkpoint, Episode.take = save_and_note, take_and_die
    main(arguments)


@pytest.mark.parametrize("kind", ["pictures", "text"])
def test_a_run_killed_in_an_episode_goes_on_to_the_same_last_digit(kind, config_of, settings, tmp_path):
    more = [*SURPLUS, "data.mini_rollout_batch_size=5", "trainer.save_freq=1"]
    more += [
        "algorithm.filter_low=-1",
        "algorithm.filter_high=2",
    ]  # all are kept: each step carries some over
    more += TEXT if kind == "text" else []
    arguments = ["train", str(tmp_path / "run.yaml"), *settings("Walk"), *more]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=killed, args=(arguments,))
    process.start()
    whole = train(config_of("Walk", *more, folder="whole"))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run = Run(tmp_path / "run")
    last = run.checkpoint_steps()[-1]
    assert last < 4
    assert read_saved(run.checkpoint(last) / "trainer/state.pt")["surplus"]
    halves = train(config_of("Walk", *more))
    assert figures(halves) == figures(whole)
    assert same_weights(halves, whole)
    for step in range(1, 5):
        assert halves.rollouts_file(step).read_bytes() == whole.rollouts_file(step).read_bytes()
    turns = [record.turn["number"] for step in range(1, 5) for record in whole.read_rollouts(step)]
    assert max(turns) > 2


def test_a_run_stopped_while_it_plays_saves_and_goes_on(config_of, monkeypatch, capsys):
    few = ["trainer.max_steps=2", "data.rollout_batch_size=2", "worker.rollout.n=2"]  # processes at once
    whole = train(config_of("Apart", *few, folder="whole"))
    take, taken = Episode.take, []

    def take_and_stop(self, *of):
        take(self, *of)
        trained_on = {episode.row.id for episode in taken if episode.row.id.startswith("train")}
        taken.append(self)
        if len(trained_on) == 2 and self.row.id not in trained_on:  # the second step's first turn
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Episode, "take", take_and_stop)
        with pytest.raises(Stopped) as stopped:
            train(config_of("Apart", *few))
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "SIGTERM: saving" in capsys.readouterr().out
    processes = taken[0].game._processes
    assert not processes._all
    assert Run(config_of("Apart", *few).trainer.save_checkpoint_path).checkpoint_steps() == [1]
    assert figures(train(config_of("Apart", *few))) == figures(whole)


def test_the_grid_world_is_trained_on_and_validated(config_of):
    run = train(config_of("gridworld", "environment.settings={view: 2}", "trainer.max_steps=2"))
    first, *lines = run.read_metrics()
    assert first["val/episode/turns"] == 4
    for line in lines:
        assert line["episode/cut"] > 0
        assert line["episode/valid"] == 0.0  # a random model knows no move
        assert line["reward/accuracy"] == line["episode/won"] == 0.0
        assert line["response_length/max"] <= 10
    records = list(run.read_rollouts(1))
    assert len(records) == 4 * 4 * 4
    assert {record.turn["penalty"] for record in records} == {0.1}
    assert max(len(record.images) for record in records) == 3


def test_the_samplers_log_probs_serve_as_old_ones(config_of):
    run = train(config_of("Walk", *TEXT, "worker.actor.old_log_probs=rollout", "trainer.val_freq=-1"))
    lines = run.read_metrics()
    assert [line["step"] for line in lines if line["step"]] == [1, 2, 3, 4]
    assert all(line["rollout/mismatch_max"] < 1e-4 for line in lines if line["step"])


def test_broken_games_are_counted_and_told_and_the_run_goes_on(config_of, capsys):
    run = train(config_of("Breaks", *TEXT, "trainer.max_steps=2"))
    assert all(line["episode/broken"] > 0 for line in run.read_metrics() if line["step"])
    said = capsys.readouterr().out
    assert said.count("ended: step raised KeyError: 'a lost key'") == 1


def test_a_row_whose_game_cannot_be_made_is_a_bad_row_before_the_run(config_of, tmp_path, tiny_folder):
    with pytest.raises(BadRowsError, match="game_broken: reset raised OSError: no board"):
        train(config_of("NeverBegins"))
    games = [example.game for example in make_examples("train", 4)]
    games[1] = "nothing"
    rows = [
        {"problem": "Go.", "answer": "-", "id": f"row {i}", "game": game, "images": []}
        for i, game in enumerate(games)
    ]
    write_splits(tmp_path / "few", {"train": rows}, {"id": "string", "game": "string"})
    few = [f"data.train_files={tmp_path / 'few/train.parquet'}", "data.val_files=null", "trainer.val_freq=-1"]
    few += ["trainer.max_steps=1", "data.rollout_batch_size=2"]
    with pytest.raises(BadRowsError, match=r"row 1 .*is no level of the grid world"):
        train(config_of("gridworld", *few))
    run = train(config_of("gridworld", *few, "data.on_bad_row=skip"))
    assert "game_broken" in (run.folder / "train.bad_rows.jsonl").read_text()
    with pytest.raises(BadRowsError, match="prompt_too_long"):
        train(config_of("gridworld", *few, "data.on_bad_row=skip", "data.max_prompt_length=40"))


def test_validation_plays_its_games_in_blocks_and_finds_the_same(config_of, monkeypatch):
    asked, real = [], validation.answered

    def noted(s, rows, *of):
        asked.append(len(rows))
        return real(s, rows, *of)

    monkeypatch.setattr(validation, "answered", noted)
    at_once = train(config_of("Walk", *TEXT, "trainer.max_steps=1", folder="at_once"))
    assert set(asked) == {4}
    asked.clear()
    monkeypatch.setattr(validation, "GAMES_AT_ONCE", 3)
    in_blocks = train(config_of("Walk", *TEXT, "trainer.max_steps=1", folder="in_blocks"))
    assert asked == [3, 1] * (len(asked) // 2)
    assert figures(at_once) == figures(in_blocks)


def test_a_resumed_run_refuses_other_games(config_of, tmp_path, levels):
    train(config_of("gridworld", "trainer.max_steps=1"))
    rows = [
        {**vars(example), "images": [], **example.meta}
        for example in load_examples(str(levels / "train.parquet"))
    ]
    for row in rows:
        del row["meta"]
    rows[3]["game"] = rows[4]["game"]
    write_splits(tmp_path / "other", {"train": rows}, {"id": "string", "game": "string", "moves": "int32"})
    with pytest.raises(ValueError, match="was trained on other data: the rows"):
        train(config_of("gridworld", f"data.train_files={tmp_path / 'other/train.parquet'}"))


def test_a_resumed_run_is_told_of_another_template_or_class(config_of, tmp_path, capsys):
    code, template = tmp_path / "own.py", tmp_path / "turn.jinja"
    code.write_text(GAMES.read_text())
    template.write_text("{{ observation }}{% for turn in history %} {{ turn.action }}{% endfor %}")
    own = [f"environment.name={code}:Walk", f"environment.template={template}", *TEXT]
    own += ["data.val_files=null", "trainer.val_freq=-1", "trainer.save_freq=1"]

    def said(steps: int) -> str:
        train(config_of("Walk", *own, f"trainer.max_steps={steps}"))
        return capsys.readouterr().out

    said(1)
    assert "stands for changed" not in said(2)
    template.write_text(template.read_text() + "!")
    out = said(3)
    assert "what environment.template stands for changed: from here on games are played" in out
    code.write_text(code.read_text() + "# another line\n")
    assert "what environment.name stands for changed" in said(4)


def test_rows_without_a_game_have_the_fingerprint_that_they_had(diagrams, tmp_path):
    """Of run_of_35229e5 and any other run before there were games."""
    examples = load_examples(str(diagrams / "train.parquet"))
    digest = hashlib.sha256()
    for texts in examples.texts():
        digest.update(repr(texts).encode())
    assert fingerprint_of(examples, tmp_path / "cache.json").texts == digest.hexdigest()


def shared(group: Group) -> list[int]:
    """Which of its prompts each response answered."""
    prompts = [id(prompt) for prompt in group.prompts]
    return [prompts.index(id(group.prompt_of(k))) for k in range(len(group.responses))]


@pytest.mark.parametrize("history", [0, 2])
def test_a_group_that_is_carried_over_a_kill_keeps_its_turns(config_of, tmp_path, tiny_folder, history):
    config = config_of("Walk", f"environment.history_length={history}")
    processor, make = load_configured_processor(config), load_configured_environment(config)
    prompts, model = load_split(config, config.data.train_files, processor, make), load_model(tiny_folder)
    played = play(
        games_of(config, make, prompts),
        [prompts.examples[i] for i in range(3)],
        range(3),
        sampling_of(config),
        lambda asked, positions, sampling: generate(model, processor, asked, sampling, positions),
    )
    torch.save([group_state(group) for group in played.groups], tmp_path / "state.pt")
    found = [group_from(values, prompts) for values in read_saved(tmp_path / "state.pt")]
    for before, now in zip(played.groups, found, strict=True):
        assert (before.key, before.scores, before.verdicts) == (now.key, now.scores, now.verdicts)
        assert shared(before) == shared(now)
        assert now.prompt is now.responses[0].turn.prompt
        for one, other in zip(before.responses, now.responses, strict=True):
            assert torch.equal(one.ids_T, other.ids_T)
            a, b = vars(one.turn).copy(), vars(other.turn).copy()
            one_prompt, other_prompt = a.pop("prompt"), b.pop("prompt")
            assert a == b
            assert one_prompt.text == other_prompt.text
            assert one_prompt.pictures_key == other_prompt.pictures_key
            assert one_prompt.example == other_prompt.example


def test_dry_run_and_doctor_tell_of_games(settings, tmp_path, capsys):
    said = ["train", str(tmp_path / "run.yaml"), *settings("gridworld")]
    assert main([*said, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "environment gridworld, up to 4 turns" in plan
    assert "4 games x 4 = 16 episodes" in plan
    assert "24 games, of whose first turns 24 show pictures, from" in plan
    assert "is not known before" in plan
    assert "Turn 1: <image>" in plan
    assert main(["doctor", *said[1:], "--out", str(tmp_path / "doctor"), "--rehearse"]) == 0
    found = capsys.readouterr().out
    assert "gridworld: first turns of 8 train rows made, of" in found
    assert "not tried: how many turns games take" in found
    assert main(["doctor", *settings_with(said[1:], "NeverBegins"), "--out", str(tmp_path / "broken")]) == 1
    assert "reset raised OSError: no board" in capsys.readouterr().out


def test_the_doctor_counts_a_turn_s_pictures_and_not_its_row_s(settings, tmp_path):
    """The rows of these levels have no picture, and each turn shows one."""

    def told(*more: str) -> list[dict]:
        gpu = ["engine=easyr1", "trainer.n_gpus_per_node=1", "worker.rollout.tensor_parallel_size=1"]
        said = [str(tmp_path / "run.yaml"), *settings("gridworld"), *gpu, *more]
        main(["doctor", *said, "--out", str(tmp_path / "doctor")])
        findings = json.loads((tmp_path / "doctor/doctor.json").read_text())
        assert any("max_prompt_length tokens of pictures" in finding["what"] for finding in findings)
        return [finding for finding in findings if "limit_images" in finding["where"]]

    (over,) = told("worker.rollout.limit_images=1", "environment.history_length=2")
    assert over["level"] == "warning"
    assert over["change"] == "worker.rollout.limit_images=3, or 0 for no limit"
    assert told("worker.rollout.limit_images=3", "environment.history_length=2") == []
    assert told("worker.rollout.limit_images=1", "environment.history_length=0") == []
    assert told("worker.rollout.limit_images=1", "environment.max_turns=1") == []
    assert told("worker.rollout.limit_images=0") == []


def settings_with(arguments: list[str], name: str) -> list[str]:
    return [f"environment.name={GAMES}:{name}" if a.startswith("environment.name") else a for a in arguments]


def test_filtering_by_accuracy_is_by_who_won(config_of):
    run = train(config_of("Walk", *TEXT, *SURPLUS, "trainer.max_steps=2"))
    for line in run.read_metrics()[1:]:
        assert 0 < line["reward/accuracy"] < 1
        assert line["filter/generated_prompts"] == 6 * line["filter/tries"]
