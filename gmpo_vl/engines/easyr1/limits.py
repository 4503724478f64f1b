"""What this engine refuses of a configuration that engine local, or EasyR1, would take. Imports nothing of EasyR1."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.config.schema import value_of

# Keys that somebody may have written, the values that this engine honours, and why not the others.
_HONOURED: dict[str, tuple[tuple[Any, ...], str]] = {
    "algorithm.adv_estimator": (("grpo", "grpo_no_std"), "it has group advantages only"),
    "algorithm.gamma": ((1.0,), "a discount belongs to adv_estimator gae; remove it"),
    "algorithm.lam": ((1.0,), "lambda belongs to adv_estimator gae; remove it"),
    "algorithm.kl_penalty": (
        ("kl", "k1", "mse", "k2", "low_var_kl", "k3", "abs"),
        "`full` needs the logits of the reference",
    ),
    "algorithm.kl_type": (("fixed",), "the adaptive controller belongs to KL in the reward"),
    "algorithm.kl_horizon": ((10000.0,), "it belongs to kl_type adaptive; remove it"),
    "algorithm.kl_target": ((0.1,), "it belongs to kl_type adaptive; remove it"),
    "worker.hybrid_engine": ((True,), "EasyR1 has no other; remove it"),
    "worker.actor.strategy": (("fsdp",), "EasyR1 has no other; remove it"),
    "worker.actor.model.trust_remote_code": ((False,), "it runs no code from a model's folder; remove it"),
    "worker.reward.skip_special_tokens": (
        (True,),
        "a reward reads the text without special tokens; remove it",
    ),
    "worker.rollout.name": (("vllm",), "EasyR1 has no other; remove it"),
    "worker.rollout.dtype": (("bf16", "fp16", "fp32"), "write one of bf16, fp16, fp32"),
    "trainer.critic_warmup": ((0,), "it has no critic, so the policy would only wait; remove it"),
    "trainer.logger": (
        ("console", "file", "tensorboard", "wandb"),
        "the run's own files and these are what is written",
    ),
}
_WITHOUT_USE = ("worker.critic.*", "data.video_*", "data.filter_overlong_prompts_workers")


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
    if easyr1_loss(config) is not None:
        problems += _of_its_own_losses(config)
    for key, (honoured, why) in _HONOURED.items():
        value = value_of(config, key)
        values = value if isinstance(value, list) else [value]
        if key in config.written and not all(v in honoured for v in values):
            problems.append(f"{key} is {value!r}: engine easyr1 cannot honour this: {why}")
    if problems:
        raise ConfigError("\n".join(problems))


def _of_its_own_losses(config: Config) -> list[str]:
    """What EasyR1 refuses besides when trainer and workers start, minutes after Ray did (b44b311: ray_trainer.py,
    fsdp_workers.py). With objectives of ours it is told micro-batches of 1, which divide everything."""
    actor, n = config.worker.actor, config.worker.rollout.n
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node // actor.ulysses_size
    rollouts, update = config.data.rollout_batch_size * n, actor.global_batch_size * n
    if ranks == 0 or update < ranks:
        return [
            f"worker.actor.ulysses_size {actor.ulysses_size}, worker.actor.global_batch_size {actor.global_batch_size}: "
            "an update has no rollout for some of the GPUs"
        ]
    per_rank, problems = update // ranks, []
    key = "worker.actor.micro_batch_size_per_device_for_"
    for name, size, whole, what in (
        ("update", actor.micro_batch_size_per_device_for_update, per_rank, "rollouts per GPU and update"),
        ("experience", actor.micro_batch_size_per_device_for_experience, rollouts, "rollouts of a step"),
    ):
        if whole % size:
            fitting = ", ".join(str(d) for d in _divisors(whole)[-6:])
            problems.append(
                f"{key}{name} {size} does not divide the {whole:,} {what}; write one of {fitting}"
            )
    if actor.fsdp.enable_cpu_offload and per_rank != actor.micro_batch_size_per_device_for_update:
        problems.append(
            "worker.actor.fsdp.enable_cpu_offload: FSDP's own offload and several micro-batches an update do not go together; "
            "use worker.actor.offload.offload_params and offload_optimizer"
        )
    return problems


def _divisors(number: int) -> list[int]:
    """Up to 512: no device takes more rollouts at once."""
    return [d for d in range(1, min(number, 512) + 1) if number % d == 0]


def without_use(config: Config) -> list[str]:
    """A line that names written keys of parts that this engine does not have; nothing without any."""
    keys = sorted(k for k in config.written if any(fnmatchcase(k, pattern) for pattern in _WITHOUT_USE))
    return (
        [f"engine easyr1 has no critic and no videos here, so without use: {', '.join(keys)}"] if keys else []
    )
