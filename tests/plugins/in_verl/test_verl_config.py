"""verl's own configuration classes take the arguments of the two recipes."""

import subprocess
from pathlib import Path

import pytest
from omegaconf import DictConfig
from settings import composed
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


def sections(config: DictConfig, where: str = ""):
    """Every section that names the class of its own."""
    for key, value in config.items():
        if isinstance(value, DictConfig):
            if value.get("_target_"):
                yield f"{where}{key}", value
            else:
                yield from sections(value, f"{where}{key}.")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_arguments_are_verl_s(recipe, tmp_path, models):
    model = f"actor_rollout_ref.model.path={models['vl']}"  # no hub here
    config = composed(*arguments_of(recipe, tmp_path, model))
    validate_config(config, need_reference_policy(config), need_critic(config))
    built = {where: omega_conf_to_dataclass(section) for where, section in sections(config)}
    assert {"actor_rollout_ref.actor", "actor_rollout_ref.model", "algorithm"} <= built.keys()
    loss = built["actor_rollout_ref.actor"].policy_loss
    assert isinstance(loss, PolicyLoss)
    assert loss.loss_mode == "gmpo_vl/gmpo"
    assert config.trainer.experiment_name == recipe.stem


def test_there_are_both():
    assert len(RECIPES) == 2
