"""Batch arithmetic: what a step is made of, and what the engine cannot divide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gmpo_vl.config import Config
from gmpo_vl.doctor.findings import Finding


def check_batches(config: Config, num_prompts: int, refusals: Sequence[str]) -> Iterator[Finding]:
    """Rollouts, updates and steps in numbers; then what the engine says of the configuration (`refusals`)."""
    data, actor, n = config.data, config.worker.actor, config.worker.rollout.n
    steps = config.trainer.max_steps or config.trainer.total_epochs * num_prompts // data.rollout_batch_size
    updates = actor.ppo_epochs * -(-data.rollout_batch_size // actor.global_batch_size)
    yield Finding(
        "ok",
        "batches",
        f"{steps:,} steps of {data.rollout_batch_size:,} prompts x {n} = {data.rollout_batch_size * n:,} rollouts, "
        f"{updates:,} updates of {actor.global_batch_size * n:,} rollouts",
    )
    if steps == 0:
        yield Finding(
            "error",
            "batches",
            f"{num_prompts:,} prompts are less than one step's {data.rollout_batch_size:,}",
            "data.rollout_batch_size",
            "lower it, or set trainer.max_steps",
        )
    if num_prompts < data.rollout_batch_size:
        yield Finding(
            "warning",
            "batches",
            f"a step of {data.rollout_batch_size:,} prompts takes some of the {num_prompts:,} more than once",
            "data.rollout_batch_size",
            "lower it, or bring more data",
        )
    for refusal in refusals:
        yield Finding("error", "engine", refusal, "", "engine easyr1 refuses this when it starts")
    if config.engine == "easyr1":
        yield from _easyr1(config)


def _easyr1(config: Config) -> Iterator[Finding]:
    """What EasyR1 refuses besides when its workers start, minutes after Ray did (b44b311: ray_trainer.py, fsdp_workers.py)."""
    actor, rollout, n = config.worker.actor, config.worker.rollout, config.worker.rollout.n
    world = config.trainer.nnodes * config.trainer.n_gpus_per_node
    ranks = max(1, world // actor.ulysses_size)
    rollouts, update = config.data.rollout_batch_size * n, actor.global_batch_size * n
    per_rank = update // ranks

    def refuse(what: str, where: str, change: str) -> Finding:
        return Finding("error", "batches", what, where, change)

    if per_rank == 0 or update % ranks:
        return  # the engine has said so itself
    easyr1_loss = actor.loss_type.startswith("easyr1/")  # our own objectives cut micro-batches of any size
    if easyr1_loss and per_rank % actor.micro_batch_size_per_device_for_update:
        yield refuse(
            f"{per_rank:,} rollouts per GPU and update do not divide into micro-batches of "
            f"{actor.micro_batch_size_per_device_for_update}",
            "worker.actor.micro_batch_size_per_device_for_update",
            f"take one of {', '.join(map(str, _divisors(per_rank)[-6:]))}",
        )
    if easyr1_loss and rollouts % actor.micro_batch_size_per_device_for_experience:
        yield refuse(
            f"{rollouts:,} rollouts do not divide into {actor.micro_batch_size_per_device_for_experience}",
            "worker.actor.micro_batch_size_per_device_for_experience",
            f"take one of {', '.join(map(str, _divisors(rollouts)[-6:]))}",
        )
    length = config.data.max_prompt_length + config.data.max_response_length
    if not rollout.enable_chunked_prefill and rollout.max_num_batched_tokens <= length:
        yield refuse(
            f"vLLM takes {rollout.max_num_batched_tokens:,} tokens at once, a prompt with its response has {length:,}",
            "worker.rollout.max_num_batched_tokens",
            f"raise it above {length:,}",
        )
    micro_batch = actor.micro_batch_size_per_device_for_update if easyr1_loss else 1
    if actor.fsdp.enable_cpu_offload and per_rank != micro_batch:
        yield refuse(
            "FSDP's CPU offload and several micro-batches an update do not go together",
            "worker.actor.fsdp.enable_cpu_offload",
            "use worker.actor.offload.offload_params and offload_optimizer instead",
        )


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, min(number, 512) + 1) if number % d == 0]
