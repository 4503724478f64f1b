"""What this engine refuses of a configuration that engine local, or EasyR1, would take. Imports nothing of EasyR1."""

from __future__ import annotations

from gmpo_vl.config import Config, ConfigError


def easyr1_loss(config: Config) -> str | None:
    """NAME of `loss_type: easyr1/NAME`; None for this project's objectives."""
    kind, _, name = config.worker.actor.loss_type.rpartition("/")
    return name if kind == "easyr1" else None


def check(config: Config) -> None:
    """What can run on engine local but not here. Raises ConfigError with one line each."""
    actor, rollout, trainer = config.worker.actor, config.worker.rollout, config.trainer
    gpus = trainer.nnodes * trainer.n_gpus_per_node
    problems = []
    if config.data.rollout_batch_size % gpus or actor.global_batch_size % gpus:
        problems.append(
            f"data.rollout_batch_size {config.data.rollout_batch_size} and worker.actor.global_batch_size "
            f"{actor.global_batch_size} (prompts) must be multiples of the {gpus} GPUs (trainer.nnodes x "
            "trainer.n_gpus_per_node): a prompt's rollouts stay together on one GPU"
        )
    if gpus % rollout.tensor_parallel_size:
        problems.append(
            f"worker.rollout.tensor_parallel_size {rollout.tensor_parallel_size} does not divide the {gpus} GPUs"
        )
    if config.algorithm.adv_estimator not in ("grpo", "grpo_no_std"):
        problems.append(
            f"algorithm.adv_estimator {config.algorithm.adv_estimator}: this engine has group advantages only, grpo and "
            "grpo_no_std"
        )
    if not config.algorithm.disable_kl and not config.algorithm.use_kl_loss:
        problems.append(
            "algorithm.disable_kl false without use_kl_loss puts the KL term into the reward, which group advantages "
            "cannot see; write algorithm.use_kl_loss: true, or disable_kl: true as the paper"
        )
    if easyr1_loss(config) is None and actor.ulysses_size > 1:
        problems.append(
            f"worker.actor.ulysses_size {actor.ulysses_size}: a packed group is not split over GPUs; where it does not fit, "
            "lower worker.actor.max_tokens_per_micro_batch, or use loss_type easyr1/NAME"
        )
    if easyr1_loss(config) is None and actor.fsdp.enable_cpu_offload:
        problems.append(
            "worker.actor.fsdp.enable_cpu_offload: FSDP's own offload and several forwards an update do not go together; "
            "use worker.actor.offload.offload_params and offload_optimizer"
        )
    longest = config.data.max_prompt_length + config.data.max_response_length
    if rollout.max_num_batched_tokens < longest:
        problems.append(
            f"worker.rollout.max_num_batched_tokens {rollout.max_num_batched_tokens:,}: a prompt with its response has up to "
            f"{longest:,} tokens; write at least that"
        )
    if config.worker.reward.skip_special_tokens is not True:
        problems.append("worker.reward.skip_special_tokens: a reward reads the text without special tokens")
    if problems:
        raise ConfigError("\n".join(problems))
