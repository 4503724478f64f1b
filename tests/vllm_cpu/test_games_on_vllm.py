"""Games on real vLLM: runs through Ray, the worker alone, and an evaluation, in words and in pictures."""

import json
from pathlib import Path

import pytest

pytest.importorskip("vllm.v1", reason="vLLM is not installed: make test-vllm EASYR1_HOME=FOLDER")
pytest.importorskip("verl", reason="EasyR1 is not installed: make test-vllm EASYR1_HOME=FOLDER")

import household
from gaps import RIGHT, largest_gap, move_weights
from ranks import run_ranks
from runs import command, of_steps, train
from tiny_families import save_tiny_text

from gmpo_vl.config import load_config
from gmpo_vl.engines.easyr1.config import to_easyr1
from gmpo_vl.engines.easyr1.cpu import CPUWorker
from gmpo_vl.engines.easyr1.serialisation import answers_of, prompts_to_proto
from gmpo_vl.models.processing import load_processor
from gmpo_vl.rollout.episodes import play
from gmpo_vl.setup import games_of, load_configured_environment, load_split, sampling_of
from gmpo_vl.types import Group

TURNS = 5
WALK = Path(__file__).parents[1] / "engines" / "playing_games.py"


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory) -> Path:
    return save_tiny_text(tmp_path_factory.mktemp("models") / "text")


@pytest.fixture
def games(tmp_path, tiny_folder, tiny_text):
    """games(kind): the model, and the section `environment`, of ALFWorld in words or a walk in pictures."""

    def of(kind):
        if kind == "words":
            name, log = f"{Path(household.__file__)}:Lucky", str(tmp_path / "turns")
            return tiny_text, {"name": name, "settings": {"log": log}, "max_turns": TURNS}
        return tiny_folder, {"name": f"{WALK}:Walk", "max_turns": TURNS}

    return of


@pytest.fixture
def settings(tmp_path, config_file, games):
    """settings(kind): of a run that plays these games, as a.b=c."""

    def of(kind):
        model, environment = games(kind)
        return [
            f"data.train_files={household.write_games(tmp_path / 'train.parquet', 12)}",
            f"data.val_files={household.write_games(tmp_path / 'validation.parquet', 3)}",
            "data.max_prompt_length=1024",
            f"worker.actor.model.model_path={model}",
            # On a CPU vLLM cuts no prompt of a sample with a seed: a turn of all games must fit.
            "worker.rollout.max_num_batched_tokens=32768",
            "algorithm.episode_weight=episode",
            f"environment={json.dumps(environment)}",
        ]

    return of


def test_alfworld_through_ray_twice(tmp_path, settings, note):
    """Two ranks, three steps and the validations between them."""
    runs = []
    for name in ("one", "other"):
        said, run = train(tmp_path, settings("words"), name, "trainer.n_gpus_per_node=2")
        assert "rollouts by vLLM 0.11" in said
        runs.append(run)
    one, other = runs
    note(of_steps(one, "rollout/mismatch_max"))
    assert len(of_steps(one, "rollout/mismatch_max")) == 3
    assert max(of_steps(one, "rollout/mismatch_max")) < RIGHT
    assert all(norm > 0 for norm in of_steps(one, "actor/grad_norm"))
    for step in (1, 2, 3):
        records = one.read_rollouts(step)
        assert {record.turn["number"] for record in records} == set(range(1, TURNS + 1))
        assert len({record.response for record in records}) > len(records) / 2
        assert records == other.read_rollouts(step)
    for key in ("episode/won", "episode/turns", "actor/grad_norm", "rollout/mismatch_max"):
        assert of_steps(one, key) == of_steps(other, key)


def played(rank, world, config, steps=3):
    """The largest gap of each of some steps, between which all weights move; and what was said in each,
    where the last step is played again with the same weights.
    """
    worker = CPUWorker(to_easyr1(config, steps, cpu=True).worker, "actor_rollout_ref")
    worker.init_model()
    processor = load_processor(config.worker.actor.model.model_path)
    prompts = load_split(config, config.data.train_files, processor)
    games = games_of(config, load_configured_environment(config), prompts)
    rows = [prompts.examples[i] for i in range(4)]

    def generate(asked, positions, sampling):
        proto = prompts_to_proto(asked, positions, sampling, world)
        answers = answers_of(worker.generate_sequences(proto))
        return [Group(str(i), prompt, of) for i, (prompt, of) in enumerate(zip(asked, answers))]

    gaps, said = [], []
    for step in [*range(steps), steps - 1]:
        worker.prepare_rollout_engine()
        groups = play(games, rows, [step] * 4, sampling_of(config), generate).groups
        worker.release_rollout_engine()
        gaps.append(largest_gap(worker, groups))
        said.append(
            [(r.turn.episode, r.turn.number, r.ids_T.tolist()) for group in groups for r in group.responses]
        )
        if step < steps - 1:
            move_weights(worker.fsdp_module, ("",), seed=step)
    return gaps, said


@pytest.mark.parametrize("kind", ["words", "pictures"])
def test_every_turn_s_log_probs_are_the_trainer_s_and_its_tokens_come_again(
    config_file, settings, note, kind
):
    [(gaps, said)] = run_ranks(1, played, load_config(config_file, settings(kind)))
    note(gaps)
    assert max(gaps) < RIGHT
    assert said[-1] == said[-2] != said[0]
    assert max(number for _, number, _ in said[0]) == TURNS


def greedy(tmp_path, games, kind, backend):
    """The records of an evaluation on eight games."""
    model, environment = games(kind)
    fields = {
        "data": str(household.write_games(tmp_path / "test.parquet", 8)),
        "n": 1,
        "temperature": 0.0,
        "min_pixels": None,
        "max_pixels": None,
        "max_prompt_tokens": 1024,
        "max_tokens": 10,
        "chunk": 4,
        "environment": environment,
    }
    protocol = tmp_path / "small.yaml"
    protocol.write_text(json.dumps(fields))
    command("eval", model, "--protocol", protocol, "--backend", backend, "--out", tmp_path / backend)
    [samples] = (tmp_path / backend).glob("*/samples.jsonl")
    return [json.loads(line) for line in samples.open()]


@pytest.mark.parametrize("kind", ["words", "pictures"])
def test_an_evaluation_s_greedy_games_are_those_of_transformers(tmp_path, games, kind):
    by_vllm, by_transformers = (greedy(tmp_path, games, kind, name) for name in ("vllm", "transformers"))
    assert {record["turn"]["number"] for record in by_vllm} >= {1, 2, 3}
    assert by_vllm == by_transformers
