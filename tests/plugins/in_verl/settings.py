"""verl's configuration, composed by hydra as its own command does."""

from pathlib import Path

import verl
from hydra import compose, initialize_config_dir
from verl.utils.config import omega_conf_to_dataclass

ACTOR = "actor_rollout_ref.actor"
LOSS = f"{ACTOR}.policy_loss"
OURS = f"{LOSS}._target_=gmpo_vl.plugins.verl.PolicyLoss"
ON_CPU = (
    "trainer.device=cpu",
    "actor_rollout_ref.model.use_remove_padding=false",
    "actor_rollout_ref.model.enable_gradient_checkpointing=false",
    "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=2",
    *(
        setting
        for part in ("actor", "ref")
        for setting in (
            f"actor_rollout_ref.{part}.strategy=fsdp2",
            f"actor_rollout_ref.{part}.fsdp_config.model_dtype=fp32",
            f"+actor_rollout_ref.{part}.fsdp_config.mixed_precision.param_dtype=fp32",
            f"actor_rollout_ref.{part}.fsdp_config.use_torch_compile=false",
        )
    ),
    f"{ACTOR}.use_torch_compile=false",
)


def composed(*overrides):
    folder = Path(verl.__file__).parent / "trainer" / "config"
    with initialize_config_dir(str(folder), version_base=None):
        return compose("ppo_trainer", overrides=list(overrides))


def actor_config(*overrides):
    """verl's dataclass of the actor."""
    least = (f"{ACTOR}.strategy=fsdp2", f"{ACTOR}.ppo_micro_batch_size_per_gpu=1")
    return omega_conf_to_dataclass(composed(*least, *overrides).actor_rollout_ref.actor)


def loss_options(mode: str, **options) -> tuple[str, ...]:
    return OURS, f"{LOSS}.loss_mode={mode}", *(f"+{LOSS}.{key}={value}" for key, value in options.items())
