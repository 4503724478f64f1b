"""Every recipe resolves against EasyR1's own classes, without a GPU: settings, files, sizes, the split over
GPUs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

from gmpo_vl.config import load_config
from gmpo_vl.data.writing import write_splits
from gmpo_vl.engines.easyr1.config import to_easyr1
from gmpo_vl.models.moe import save_tiny_moe
from gmpo_vl.preflight.plan import describe_method, dry_run
from gmpo_vl.tasks.countdown.data import TINY, export

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    p for p in (ROOT / "recipes").glob("*.sh") if not p.stem.startswith(("accept", "_", "verl_"))
)
GAMES = [recipe for recipe in RECIPES if "_alfworld_" in recipe.stem]
TEXT = [recipe for recipe in RECIPES if "_vl_" not in recipe.stem and recipe not in GAMES]
HOUSE = {
    "goal": ["pick_and_place_simple", "knife", "drawer"],
    "start": -1,
    "receptacles": [["drawer 1", "drawer", 0, "o"], ["sink 1", "sink", 3, ""]],
    "objects": [["knife 1", [1], [3], "pc"]],
    "within": [],
    "fits": {"drawer": "knife", "sink": "knife"},
}


def in_place(folder, model) -> list[str]:
    """What a machine without the hub puts in the place of model and data; the rest of a recipe stays."""
    return [
        "data.on_bad_row=error",
        f"worker.actor.model.model_path={model}",
        f"data.train_files={folder / 'train.parquet'}",
        f"data.val_files={folder / 'validation.parquet'}",
        "trainer.max_steps=5",
    ]


@pytest.fixture
def offline(diagrams, tiny_folder):
    return [*in_place(diagrams, tiny_folder), "data.min_pixels=null", "data.format_prompt=math"]


@pytest.fixture(scope="session")
def offline_text(tmp_path_factory):
    """Puzzles, and a tiny mixture of experts."""
    folder = tmp_path_factory.mktemp("text")
    export(folder, {"train": 24, "validation": 6}, TINY)
    return in_place(folder, save_tiny_moe(folder / "moe"))


@pytest.fixture(scope="session")
def offline_games(tmp_path_factory):
    """A small house, and a tiny text model."""
    folder = tmp_path_factory.mktemp("games")
    row = {"images": [], "problem": "put a knife in drawer.", "answer": "-", "game": json.dumps(HOUSE)}
    counts = {"train": 24, "validation": 6}
    splits = {split: [row | {"id": f"{split} {i}"} for i in range(n)] for split, n in counts.items()}
    write_splits(folder, splits, {"id": "string", "game": "string"})
    return in_place(folder, save_tiny_moe(folder / "moe"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_s_plan_resolves(recipe, offline, offline_text, offline_games):
    there = offline_games if recipe in GAMES else offline_text if recipe in TEXT else offline
    config = load_config(ROOT / "configs" / f"{recipe.stem}.yaml", there)
    plan = dry_run(config)
    assert ("alfworld" in plan.partition("its configuration classes")[0]) == (recipe in GAMES)
    assert "its configuration classes take these settings" in plan
    gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    assert f"GPUs        {gpus}" in plan
    easyr1 = to_easyr1(config, training_steps=5)
    assert easyr1.worker.actor.optim.lr == config.worker.actor.optim.lr
    assert easyr1.worker.rollout.tensor_parallel_size == config.worker.rollout.tensor_parallel_size
    assert easyr1.worker.actor.model.lora.rank == config.worker.actor.model.lora.rank
    assert easyr1.worker.rollout.response_length == config.data.max_response_length


def test_a_recipe_runs_its_configuration_and_takes_options_and_keys(offline, tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "recipes" / "qwen2_5_vl_7b_geo3k_gmpo.sh"), "--dry-run", *offline],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert "objective   gmpo" in done.stdout


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_short_and_names_its_own_files(recipe):
    text = recipe.read_text()
    assert len(text.splitlines()) <= 15
    assert f"configs/{recipe.stem}.yaml" in text
    name = yaml.safe_load((ROOT / "configs" / f"{recipe.stem}.yaml").read_text())["trainer"][
        "experiment_name"
    ]
    assert name == recipe.stem


@pytest.mark.parametrize(
    "pair",
    [
        "qwen2_5_vl_7b_geo3k",
        "qwen2_5_math_7b_math",
        "qwen2_5_math_1_5b_math",
        "r1_distill_qwen_7b_math",
        "qwen3_30b_a3b_deepscaler",
        "qwen2_5_moe_countdown",
        "qwen2_5_1_5b_alfworld",
    ],
)
def test_a_pair_differs_in_the_objective_alone(pair):
    gmpo, grpo = (load_config(ROOT / "configs" / f"{pair}_{name}.yaml") for name in ("gmpo", "grpo"))
    differing = {
        key
        for section in ("data", "algorithm", "trainer", "worker")
        for key in _differences(getattr(gmpo, section), getattr(grpo, section), section)
    }
    assert differing == {
        "worker.actor.loss_type",
        "worker.actor.log_clip_low",
        "worker.actor.log_clip_high",
        "worker.actor.clip_ratio_low",
        "worker.actor.clip_ratio_high",
        "trainer.experiment_name",
        "trainer.save_checkpoint_path",
    }
    assert gmpo.algorithm.disable_kl == (pair != "qwen2_5_1_5b_alfworld")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gmpo", "gmpo (log_clip_low 0.4, log_clip_high 0.4), advantages grpo, no KL"),
        ("grpo", "grpo (clip_ratio_low 0.2, clip_ratio_high 0.2), advantages grpo, no KL"),
        ("grpo_wide_clip", "grpo (clip_ratio_low 0.3297, clip_ratio_high 0.4918), advantages grpo, no KL"),
        ("gspo", "gspo (clip_ratio_low 0.0003, clip_ratio_high 0.0004), advantages grpo, no KL"),
        ("dapo", "dapo (clip_ratio_low 0.2, clip_ratio_high 0.28), advantages grpo, no KL"),
        (
            "grpo_easyr1",
            "easyr1/default (clip_ratio_dual 3, clip_ratio_high 0.3, clip_ratio_low 0.2, loss_avg_mode "
            "token), advantages grpo, KL to the start x 0.01 (low_var_kl)",
        ),
    ],
)
def test_the_plan_says_how_a_baseline_is_defined(name, line):
    objective, *rest = describe_method(load_config(ROOT / "configs" / f"qwen2_5_vl_7b_geo3k_{name}.yaml"))
    assert objective == f"objective   {line}"
    of_gmpo = describe_method(load_config(ROOT / "configs" / "qwen2_5_vl_7b_geo3k_gmpo.yaml"))
    assert rest[:2] == of_gmpo[1:]
    assert any("are kept" in more for more in rest) == (name == "dapo")


def _differences(a, b, prefix):
    from dataclasses import fields, is_dataclass

    for item in fields(a):
        mine, theirs, key = getattr(a, item.name), getattr(b, item.name), f"{prefix}.{item.name}"
        if is_dataclass(mine):
            yield from _differences(mine, theirs, key)
        elif mine != theirs:
            yield key
