"""The text and mixture-of-experts settings are the paper's, on both engines."""

from pathlib import Path

import pytest

from gmpo_vl.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
MATH = sorted(path.stem for path in CONFIGS.glob("*_math_g*po*.yaml"))
TEXT = sorted([*MATH, *(path.stem for path in CONFIGS.glob("*_deepscaler_*.yaml"))])
TEXT += sorted(path.stem for path in CONFIGS.glob("qwen2_5_moe_countdown_*.yaml"))


def read(name, *overrides):
    return load_config(CONFIGS / f"{name}.yaml", overrides)


@pytest.mark.parametrize("name", MATH)
def test_math_is_trained_as_in_the_paper(name):
    config = read(name)
    actor, n = config.worker.actor, config.worker.rollout.n
    assert n == 8
    assert config.data.max_response_length == 3000
    assert config.data.rollout_batch_size * n == 1024  # rollouts of a step
    assert actor.global_batch_size * n == 128  # of an update
    assert actor.optim.lr == 1e-6
    assert config.algorithm.disable_kl
    assert config.data.max_prompt_length + config.data.max_response_length <= 4096  # Qwen2.5-Math's positions


@pytest.mark.parametrize(
    ("name", "batch"), [("qwen3_30b_a3b_deepscaler", (128, 64)), ("qwen2_5_moe_countdown", (256, 128))]
)
def test_mixtures_have_the_batches_of_table_7(name, batch):
    for objective in ("gmpo", "grpo"):
        config = read(f"{name}_{objective}")
        assert (config.data.rollout_batch_size, config.worker.actor.global_batch_size) == batch


@pytest.mark.parametrize("name", TEXT)
def test_the_same_file_runs_on_engine_local(name):
    """Where a key has a value that engine local does not support, the message says what to write."""
    more = ["worker.actor.optim.strategy=adamw"] if "30b" in name else []
    config = read(name, "engine=local", *more)
    assert config.engine == "local"
    assert config.trainer.experiment_name == name
    assert (config.worker.actor.loss_type == "gmpo") == ("gmpo" in name)
    assert config.worker.rollout.max_model_len is not None
    longest = config.data.max_prompt_length + config.data.max_response_length
    assert longest <= config.worker.rollout.max_model_len <= config.worker.rollout.max_num_batched_tokens


@pytest.mark.parametrize("objective", ["gmpo", "grpo"])
def test_alfworld_is_trained_with_the_public_recipe_s_settings(objective):
    config = read(f"qwen2_5_1_5b_alfworld_{objective}")
    data, algorithm, actor, rollout = (
        config.data,
        config.algorithm,
        config.worker.actor,
        config.worker.rollout,
    )
    assert (data.rollout_batch_size, rollout.n, config.trainer.max_steps) == (16, 8, 150)
    assert (data.max_prompt_length, data.max_response_length) == (2048, 512)
    assert (config.environment.name, config.environment.max_turns) == ("alfworld", 50)
    assert config.environment.history_length == 2
    assert (algorithm.use_kl_loss, algorithm.kl_penalty, algorithm.kl_coef) == (True, "low_var_kl", 0.01)
    assert (algorithm.episode_weight, algorithm.episode_baseline) == ("turn", "turns")
    assert (algorithm.turn_penalty, algorithm.adv_estimator) == ("before", "grpo")
    assert actor.optim.lr == 1e-6
    assert rollout.val_override_config == {"n": 1, "temperature": 0.4}
    assert (config.engine, config.trainer.n_gpus_per_node * config.trainer.nnodes) == ("easyr1", 2)
    assert read(f"qwen2_5_1_5b_alfworld_{objective}", "engine=local").engine == "local"
