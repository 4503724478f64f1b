"""verl's own configuration classes take the arguments of the two recipes."""

import subprocess
from pathlib import Path

import pytest
from settings import composed
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config

from gmpo_vl.plugins.verl import PolicyLoss

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("verl_*.sh"))


def arguments_of(recipe, tmp_path, *more: str) -> list[str]:
    """What the recipe's file gives `python3 -m verl.trainer.main_ppo`."""
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    place = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(["bash", recipe, *more], env=place, capture_output=True, text=True, check=True)
    module, name, *arguments = done.stdout.splitlines()
    assert (module, name) == ("-m", "verl.trainer.main_ppo")
    return arguments


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_arguments_are_verl_s(recipe, tmp_path, models):
    model = f"actor_rollout_ref.model.path={models['vl']}"  # no hub here
    config = composed(*arguments_of(recipe, tmp_path, model))
    validate_config(config, need_reference_policy(config), need_critic(config))
    parts = config.actor_rollout_ref
    for section in (parts.model, parts.rollout, config.algorithm):
        omega_conf_to_dataclass(section)
    loss = omega_conf_to_dataclass(parts.actor).policy_loss
    assert isinstance(loss, PolicyLoss)
    assert loss.loss_mode == "gmpo_vl/gmpo"
    answer = {"solution_str": "<think>a</think> \\boxed{9.2}", "ground_truth": "9.2"}
    assert get_custom_reward_fn(config)(data_source="x", **answer)["score"] == 1.0
    assert config.trainer.experiment_name == recipe.stem


def test_there_are_both():
    assert len(RECIPES) == 2
