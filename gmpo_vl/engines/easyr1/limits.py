"""What this engine refuses of a configuration that engine local, or EasyR1, would take. Imports nothing of EasyR1."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from gmpo_vl.config import Config, ConfigError
from gmpo_vl.config.schema import value_of
from gmpo_vl.models.shared import sharing_obstacle
from gmpo_vl.setup import leaves_vision_out, validation_sampling_of

EXPERT_LAYERS = ("gate_proj", "up_proj", "down_proj")
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM makes room for
# Options of objectives, and terms beside them, that `loss_type: easyr1/NAME` has no place for; and how they are off.
_OURS_ALONE = {
    "log_clip_low": "null",
    "log_clip_high": "null",
    "mean_power": "null",
    "length_constant": "null",
    "rollout_correction_cap": "null",
    "entropy_coef": "0",
}
_WITHOUT_USE = (
    "worker.critic",
    "data.video_*",
    "data.filter_overlong_prompts_workers",
    "worker.rollout.max_cached_tokens",
)
_FOR_ITS_OWN_LOSSES = ("worker.actor.padding_free", "worker.actor.use_torch_compile")
_FOR_OURS = ("worker.actor.max_tokens_per_micro_batch", "worker.actor.share_prefix")


def easyr1_loss(config: Config) -> str | None:
    """NAME of `loss_type: easyr1/NAME`; None for this project's objectives."""
    kind, _, name = config.worker.actor.loss_type.rpartition("/")
    return name if kind == "easyr1" else None


def check(config: Config) -> None:
    """What cannot run here beyond what reading a configuration refuses. Raises ConfigError with one line each."""
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
    if actor.ulysses_size > 1:
        problems.append(
            f"worker.actor.ulysses_size {actor.ulysses_size}: a group goes to one GPU whole, no sequence is split over several; "
            "where it does not fit, lower worker.actor.max_tokens_per_micro_batch"
        )
    if easyr1_loss(config) is None and actor.fsdp.enable_cpu_offload:
        problems.append(
            "worker.actor.fsdp.enable_cpu_offload: FSDP's own offload and several forwards an update do not go together; "
            "use worker.actor.offload.offload_params and offload_optimizer"
        )
    problems += _of_fsdp(config)
    problems += _of_vllm(config)
    if easyr1_loss(config) is not None:
        problems += _of_its_own_losses(config)
    if problems:
        raise ConfigError("\n".join(problems))


def check_model(config: Config, model: Any) -> None:
    """What this engine cannot do with this model (transformers' configuration of it). Raises ConfigError with one line each.

    FSDP gathers a module's weights when it is called, and every GPU must call the same ones equally often.
    """
    lora, problems = config.worker.actor.model.lora, []
    obstacle = sharing_obstacle(model)
    several = config.trainer.nnodes * config.trainer.n_gpus_per_node > 1
    ours = easyr1_loss(config) is None
    if ours and several and obstacle is not None and hasattr(model, "vision_config"):
        problems.append(
            f"worker.actor.model.model_path: {obstacle}; such a model's ViT runs only where there are pictures, and a GPU without "
            "any would be waited for. Use one GPU, or another model"
        )
    targets = [name.strip() for name in lora.target_modules.split(",")] if lora.rank > 0 else []
    outside = sorted(set(targets) & {"lm_head", "embed_tokens"})
    if outside:
        problems.append(
            f"worker.actor.model.lora.target_modules: {' and '.join(outside)} would not reach the rollouts: EasyR1 brings over the "
            "adapters of the layers alone; leave it out"
        )
    if lora.rank > 0 and hasattr(model, "vision_config") and not leaves_vision_out(lora.exclude_modules):
        problems.append(
            f"worker.actor.model.lora.exclude_modules {lora.exclude_modules}: adapters would sit in the ViT, for which vLLM has "
            "none, so the rollouts would not be the policy's; write .*visual.*"
        )
    experts = getattr(model.get_text_config(), "num_experts", None) or 0
    if experts and any(name in ("all-linear", "gate", *EXPERT_LAYERS) for name in targets):
        problems.append(
            f"worker.actor.model.lora.target_modules {lora.target_modules}: vLLM has no adapters for experts and their router, and "
            "an expert that no token of a GPU goes to is not called there, which the others would wait for; write "
            "q_proj,k_proj,v_proj,o_proj"
        )
    if problems:
        raise ConfigError("\n".join(problems))


def _of_fsdp(config: Config) -> list[str]:
    """What FSDP of torch 2.8 dies of in the first forward ("Cannot writeback when the parameter shape changes")."""
    actor, trainer = config.worker.actor, config.trainer
    alone = trainer.nnodes * trainer.n_gpus_per_node == 1
    if not (alone and actor.model.lora.rank > 0 and actor.fsdp.mp_param_dtype != "fp32"):
        return []
    why = f"with LoRA on one GPU and mp_param_dtype {actor.fsdp.mp_param_dtype} FSDP cannot keep the original parameters"
    problems = []
    if actor.fsdp.use_orig_params:
        problems.append(f"worker.actor.fsdp.use_orig_params: {why}; write false")
    if actor.model.freeze_vision_tower:
        problems.append(
            f"worker.actor.model.freeze_vision_tower: EasyR1 then sets use_orig_params, and {why}; write false, and leave the ViT "
            "out by worker.actor.model.lora.exclude_modules: .*visual.*"
        )
    return problems


def _of_vllm(config: Config) -> list[str]:
    """What vLLM 0.11 would say when it starts or is first asked, or would do without a word."""
    rollout, lora = config.worker.rollout, config.worker.actor.model.lora
    longest = config.data.max_prompt_length + config.data.max_response_length
    problems = []
    for key, room in (
        ("max_num_batched_tokens", rollout.max_num_batched_tokens),
        ("max_model_len", rollout.max_model_len),
    ):
        if room is not None and room < longest:
            problems.append(
                f"worker.rollout.{key} {room:,}: a prompt with its response has up to {longest:,} tokens; write at least that"
            )
    validation = validation_sampling_of(config)
    if validation.temperature == 0 and validation.n > 1:
        problems.append(
            f"worker.rollout.val_override_config: {validation.n} greedy samples of a prompt are one and the same; write n: 1, or "
            "a temperature"
        )
    truncated = rollout.top_p < 1.0 or rollout.top_k > 0
    trusted = (
        config.worker.actor.old_log_probs == "rollout"
        or config.worker.actor.rollout_correction_cap is not None
    )
    if truncated and trusted:
        problems.append(
            f"worker.rollout.top_p {rollout.top_p:g}, top_k {rollout.top_k}: vLLM's log-probs are then those of the truncated "
            "distribution, which worker.actor.old_log_probs: rollout and rollout_correction_cap cannot use; write 1.0 and -1, or "
            "old_log_probs: recompute without a cap"
        )
    if lora.rank > LORA_RANKS[-1]:
        problems.append(f"worker.actor.model.lora.rank {lora.rank}: vLLM takes {LORA_RANKS[-1]} at most")
    if lora.rank > 0 and lora.exclude_modules is None:
        problems.append(
            "worker.actor.model.lora.exclude_modules: vLLM has no adapters for a ViT, so the rollouts would not be the policy's; "
            "write .*visual.* (a model without pictures has no such modules, and may keep it)"
        )
    return problems


def _of_its_own_losses(config: Config) -> list[str]:
    """What they would pass over, and what EasyR1 refuses besides when trainer and workers start, minutes after Ray did
    (b44b311: ray_trainer.py, fsdp_workers.py). With objectives of ours it is told micro-batches of 1, which divide everything.
    """
    actor, n = config.worker.actor, config.worker.rollout.n
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    rollouts, update = config.data.rollout_batch_size * n, actor.global_batch_size * n
    per_rank = update // ranks
    problems = [
        f"worker.actor.{key} {getattr(actor, key):g}: EasyR1's own losses do not know it; write {off}, or an objective of ours"
        for key, off in _OURS_ALONE.items()
        if getattr(actor, key) not in (None, 0.0)
    ]
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
    """A line that names written keys that change no mathematics and have no use here; nothing without any."""
    ours = easyr1_loss(config) is None
    patterns = (*_WITHOUT_USE, *(_FOR_ITS_OWN_LOSSES if ours else _FOR_OURS))
    keys = sorted(
        key
        for key in config.written
        if any(fnmatchcase(key, pattern) for pattern in patterns) and value_of(config, key) is not None
    )
    of = "for this project's objectives" if ours else "for EasyR1's own losses"
    return [f"without use on engine easyr1 {of}: {', '.join(keys)}"] if keys else []
