"""verl's own configuration classes take the arguments of the two recipes."""

import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from settings import ACTOR, LOSS, composed
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config

from gmpo_vl.config.load import load_config
from gmpo_vl.plugins.verl import PolicyLoss

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "recipes").glob("verl_*.sh"))


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


MODEL, ROLLOUT = "actor_rollout_ref.model", "actor_rollout_ref.rollout"
# Keys of configs/*.yaml and of verl that say the same.
SAME = {
    "data.max_prompt_length": "data.max_prompt_length",
    "data.max_response_length": "data.max_response_length",
    "data.rollout_batch_size": "data.train_batch_size",
    "data.val_batch_size": "data.val_batch_size",
    "data.min_pixels": "data.mm_processor_kwargs.min_pixels",
    "data.max_pixels": "data.mm_processor_kwargs.max_pixels",
    "data.shuffle": "data.shuffle",
    "data.seed": "data.seed",
    "data.filter_overlong_prompts": "data.filter_overlong_prompts",
    "algorithm.adv_estimator": "algorithm.adv_estimator",
    "algorithm.use_kl_loss": f"{ACTOR}.use_kl_loss",
    "worker.actor.log_clip_low": f"{LOSS}.log_clip_low",
    "worker.actor.log_clip_high": f"{LOSS}.log_clip_high",
    "worker.actor.global_batch_size": f"{ACTOR}.ppo_mini_batch_size",
    "worker.actor.max_tokens_per_micro_batch": f"{ACTOR}.ppo_max_token_len_per_gpu",
    "worker.actor.max_grad_norm": f"{ACTOR}.grad_clip",
    "worker.actor.entropy_coef": f"{ACTOR}.entropy_coeff",
    "worker.actor.ppo_epochs": f"{ACTOR}.ppo_epochs",
    "worker.actor.model.model_path": f"{MODEL}.path",
    "worker.actor.model.enable_gradient_checkpointing": f"{MODEL}.enable_gradient_checkpointing",
    "worker.actor.optim.lr": f"{ACTOR}.optim.lr",
    "worker.actor.optim.betas": f"{ACTOR}.optim.betas",
    "worker.actor.optim.weight_decay": f"{ACTOR}.optim.weight_decay",
    "worker.actor.optim.lr_warmup_ratio": f"{ACTOR}.optim.lr_warmup_steps_ratio",
    "worker.actor.optim.lr_scheduler_type": f"{ACTOR}.optim.lr_scheduler_type",
    "worker.actor.offload.offload_params": f"{ACTOR}.fsdp_config.param_offload",
    "worker.actor.offload.offload_optimizer": f"{ACTOR}.fsdp_config.optimizer_offload",
    "worker.rollout.name": f"{ROLLOUT}.name",
    "worker.rollout.n": f"{ROLLOUT}.n",
    "worker.rollout.temperature": f"{ROLLOUT}.temperature",
    "worker.rollout.top_p": f"{ROLLOUT}.top_p",
    "worker.rollout.top_k": f"{ROLLOUT}.top_k",
    "worker.rollout.seed": f"{ROLLOUT}.seed",
    "worker.rollout.tensor_parallel_size": f"{ROLLOUT}.tensor_model_parallel_size",
    "worker.rollout.gpu_memory_utilization": f"{ROLLOUT}.gpu_memory_utilization",
    "worker.rollout.val_override_config.n": f"{ROLLOUT}.val_kwargs.n",
    "worker.rollout.val_override_config.temperature": f"{ROLLOUT}.val_kwargs.temperature",
    "worker.rollout.val_override_config.top_p": f"{ROLLOUT}.val_kwargs.top_p",
    "worker.reward.reward_function": "reward.custom_reward_function.reward_kwargs.reward",
    "trainer.project_name": "trainer.project_name",
    "trainer.logger": "trainer.logger",
    "trainer.total_epochs": "trainer.total_epochs",
    "trainer.n_gpus_per_node": "trainer.n_gpus_per_node",
    "trainer.nnodes": "trainer.nnodes",
    "trainer.val_before_train": "trainer.val_before_train",
    "trainer.val_freq": "trainer.test_freq",
    "trainer.val_generations_to_log": "trainer.log_val_generations",
    "trainer.save_freq": "trainer.save_freq",
    "trainer.save_limit": "trainer.max_actor_ckpt_to_keep",
}
# What the configuration writes and verl has no such key for, or says in another way.
OTHERWISE = {
    *("engine", "data.train_files", "data.val_files", "data.format_prompt", "algorithm.disable_kl"),
    *("worker.actor.loss_type", "worker.actor.fsdp.mp_param_dtype", "worker.ref.fsdp.enable_cpu_offload"),
    "trainer.experiment_name",
}


def test_the_7b_recipe_is_the_configuration_key_by_key(tmp_path):
    file = ROOT / "configs" / "qwen2_5_vl_7b_geo3k_gmpo.yaml"
    settings = asdict(load_config(file))
    ours = OmegaConf.create({part: settings[part] for part in ("data", "algorithm", "worker", "trainer")})
    theirs = composed(*arguments_of(RECIPES[0], tmp_path))
    pairs = {
        key: (OmegaConf.select(ours, key), OmegaConf.select(theirs, other)) for key, other in SAME.items()
    }
    assert {key: pair for key, pair in pairs.items() if pair[0] != pair[1]} == {}
    written = set(leaves(yaml.safe_load(file.read_text())))
    assert not written - SAME.keys() - OTHERWISE


def leaves(tree: dict, above: str = ""):
    for key, value in tree.items():
        yield from leaves(value, f"{above}{key}.") if isinstance(value, dict) else [above + key]


def test_there_are_both():
    assert len(RECIPES) == 2
