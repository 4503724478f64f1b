"""Rows without pictures, alone or among others, and mixtures of experts train on the local engine."""

import json
import math
from pathlib import Path

import pytest

from gmpo_vl.cli import main
from gmpo_vl.config import ConfigError, load_config
from gmpo_vl.data.writing import write_parquet
from gmpo_vl.engines.local.engine import train
from gmpo_vl.models.moe import packaged_tiny_moe, save_tiny_moe
from gmpo_vl.tasks.countdown.data import TINY, draw_puzzles, export, row_of
from gmpo_vl.tasks.diagrams.data import make_examples

CONFIG = Path(__file__).parents[2] / "configs" / "countdown_tiny_moe.yaml"
FIGURES = {"router/load_max", "router/load_min", "router/entropy", "router/dead_experts"}


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("puzzles")
    export(folder, {"train": 16, "validation": 4}, TINY)
    return folder


@pytest.fixture
def countdown(puzzles, tmp_path):
    """The packaged mixture's own configuration, shortened."""

    def config(*more):
        return load_config(
            str(CONFIG),
            [
                f"data.train_files={puzzles / 'train.parquet'}",
                f"data.val_files={puzzles / 'validation.parquet'}",
                f"worker.actor.model.model_path={packaged_tiny_moe()}",
                f"trainer.save_checkpoint_path={tmp_path / 'run'}",
                "data.rollout_batch_size=8",
                "trainer.max_steps=2",
                "trainer.save_freq=2",
                "trainer.logger=[file]",
                *more,
            ],
        )

    return config


def test_pictures_and_plain_text_train_in_one_batch(make_config, tmp_path):
    rows = []
    for i, (example, puzzle) in enumerate(zip(make_examples("train", 6), draw_puzzles("train", 6, TINY))):
        rows.append({"images": example.images, "problem": example.problem, "answer": example.answer})
        rows.append({**row_of(puzzle, TINY), "answer": str(i)})
    write_parquet(tmp_path / "mixed.parquet", rows)
    config = make_config(f"data.train_files={tmp_path / 'mixed.parquet'}", "trainer.max_steps=3")
    run = train(config)
    lines = run.read_metrics()
    assert [line["step"] for line in lines][-1] == 3
    for step in (1, 2, 3):
        records = run.read_rollouts(step)
        if 0 < sum(bool(record.images) for record in records) < len(records):
            break
    else:
        pytest.fail("no step had rows of both kinds")
    assert all(math.isfinite(line["actor/grad_norm"]) for line in lines[1:])
    assert max(line["rollout/mismatch_max"] for line in lines[1:]) < 1e-5
    assert not FIGURES & set().union(*lines), "a dense model has no routers"


@pytest.mark.filterwarnings("ignore:prompts are not shared")
def test_a_mixture_of_experts_trains_and_says_how_its_routers_fare(countdown):
    run = train(countdown())
    start, *steps = run.read_metrics()
    assert "val/accuracy" in start
    assert len(steps) == 2
    for line in steps:
        assert set(line) >= FIGURES
        assert 0 <= line["router/load_min"] <= 1 <= line["router/load_max"] <= 8
        assert 0 < line["router/entropy"] < math.log(8)
        assert line["router/dead_experts"] in range(3 * 8)
        assert line["reward/format"] > 0.9
        assert line["rollout/mismatch_max"] < 1e-4
    assert (run.checkpoint(2) / "huggingface" / "config.json").is_file()


@pytest.mark.filterwarnings("ignore:prompts are not shared")
def test_router_figures_do_not_depend_on_micro_batches_or_sharing(countdown, tmp_path):
    found = []
    for name, more in (
        ("whole", ["worker.actor.share_prefix=never"]),
        ("cut", ["worker.actor.share_prefix=always", "worker.actor.max_tokens_per_micro_batch=200"]),
    ):
        folder = f"trainer.save_checkpoint_path={tmp_path / name}"
        lines = train(countdown("trainer.max_steps=1", "trainer.val_before_train=false", folder, *more))
        found.append(lines.read_metrics()[-1])
    for name in FIGURES:
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-4)


def test_a_router_that_would_not_learn_is_refused_before_anything_is_loaded(
    countdown, puzzles, tmp_path, capsys
):
    model = save_tiny_moe(tmp_path / "model")
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"norm_topk_prob": True}))
    with pytest.raises(ConfigError, match=r"gets no gradient.*override_config"):
        train(countdown(f"worker.actor.model.model_path={model}"))
    more = [f"worker.actor.model.model_path={model}", f"trainer.save_checkpoint_path={tmp_path / 'dry'}"]
    more += [f"data.{split}_files={puzzles / 'train.parquet'}" for split in ("train", "val")]
    assert main(["train", str(CONFIG), "--dry-run", *more]) == 2
    assert "gets no gradient" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:prompts are not shared")
@pytest.mark.parametrize("recipe", ["qwen2_5_math_7b_math_gmpo", "qwen2_5_moe_countdown_grpo"])
def test_a_recipe_s_file_trains_here_too(recipe, puzzles, tmp_path):
    """`gmpo-vl train CONFIG engine=local`, with a tiny model and few rollouts in the place of its own."""
    config = load_config(
        CONFIG.with_name(f"{recipe}.yaml"),
        [
            "engine=local",
            f"data.train_files={puzzles / 'train.parquet'}",
            f"data.val_files={puzzles / 'validation.parquet'}",
            f"worker.actor.model.model_path={packaged_tiny_moe()}",
            f"trainer.save_checkpoint_path={tmp_path / 'run'}",
            "data.max_response_length=24",
            "data.rollout_batch_size=4",
            "worker.actor.global_batch_size=2",
            "trainer.max_steps=1",
            "trainer.logger=[file]",
        ],
    )
    run = train(config)
    line = run.read_metrics()[-1]
    assert set(line) >= FIGURES | {"val/accuracy", "actor/kl_to_start", "actor/entropy"}
    templated = line["prompt_length/mean"] > 60
    assert templated == ("math" in recipe), "qwen_math's system turn is long in this tokenizer"
