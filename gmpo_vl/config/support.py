"""What an engine supports of the keys that can be written, and what somebody wrote that runs, but otherwise.

Three kinds of keys, by engine: those it supports; *placement* keys, which say where and how fast a run
computes and change no mathematics (named once in one line where the engine has no use for them); and keys
that change the mathematics but that the engine does not support. These are refused, with the fix, when
somebody wrote them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from gmpo_vl.config.schema import GROUP_ADVANTAGES, KL_KINDS, STATE_ADVANTAGES, Config
from gmpo_vl.policy.corrections import rejections
from gmpo_vl.policy.objectives import OBJECTIVES

_PLACEMENT_ON_LOCAL = (
    "data.filter_overlong_prompts_workers",
    "worker.hybrid_engine",
    "worker.actor.strategy",
    "worker.actor.padding_free",
    "worker.actor.ulysses_size",
    "worker.actor.use_torch_compile",
    "worker.actor.fsdp.*",
    "worker.actor.offload.*",
    "worker.ref.*",
    "worker.rollout.name",
    "worker.rollout.dtype",
    "worker.rollout.limit_images",
    "worker.rollout.gpu_memory_utilization",
    "worker.rollout.enforce_eager",
    "worker.rollout.enable_chunked_prefill",
    "worker.rollout.tensor_parallel_size",
    "worker.rollout.max_model_len",
    "worker.rollout.max_num_batched_tokens",
    "worker.rollout.disable_*",
    "worker.reward.num_cpus",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    "trainer.ray_timeline",
)
# Of parts that engine local does not have; without the part, the key means nothing on either engine.
_NO_SUCH_PART_ON_LOCAL = {
    "videos": ("data.video_key", "data.video_fps"),
    "critic": ("worker.critic",),
}

DTYPE_KEYS = ("worker.actor.fsdp.torch_dtype", "worker.actor.fsdp.mp_param_dtype")

# Keys that change the mathematics, and of which an engine supports some values only; a key absent here is
# supported as it is. {key: (the values that it supports, why not the others)}
_Supported = Mapping[str, tuple[tuple[Any, ...], str]]

_BY_BOTH: _Supported = {
    "algorithm.adv_estimator": (
        (*GROUP_ADVANTAGES, *STATE_ADVANTAGES),
        "it has group advantages only, and no critic (gae); near reinforce_plus_plus is "
        "reinforce_plus_plus_baseline, near remax rloo",
    ),
    "algorithm.lam": ((1.0,), "lambda belongs to adv_estimator gae; remove it"),
    "algorithm.kl_penalty": (KL_KINDS, "`full` needs the logits of the reference"),
    "algorithm.kl_type": (("fixed",), "the adaptive controller belongs to KL in the reward; write fixed"),
    "algorithm.kl_horizon": ((10000.0,), "it belongs to kl_type adaptive; remove it"),
    "algorithm.kl_target": ((0.1,), "it belongs to kl_type adaptive; remove it"),
    "worker.actor.model.trust_remote_code": ((False,), "it runs no code from a model's folder; remove it"),
    "worker.actor.fsdp.torch_dtype": (
        (None, "fp32", "bf16"),
        "gradients in fp16 need a scale that it does not keep; write fp32",
    ),
    "worker.actor.fsdp.mp_param_dtype": (
        ("fp32", "bf16"),
        "gradients in fp16 need a scale that it does not keep; write bf16",
    ),
    "worker.reward.skip_special_tokens": (
        (True,),
        "a reward reads the text without special tokens; remove it",
    ),
    "trainer.critic_warmup": ((0,), "it has no critic, so the policy would only wait; remove it"),
    "trainer.logger": (
        ("console", "file", "tensorboard", "wandb"),
        "these four are what is written, beside the run's own files",
    ),
}
SUPPORTED: Mapping[str, _Supported] = {
    "local": {
        **_BY_BOTH,
        "worker.actor.optim.strategy": (
            ("adamw",),
            "write adamw; where memory is short, worker.actor.model.lora.rank",
        ),
        "worker.rollout.ignore_eos": ((False,), "a response ends at its end-of-sequence token; remove it"),
    },
    "easyr1": {
        **_BY_BOTH,
        "worker.hybrid_engine": ((True,), "EasyR1 has no other; remove it"),
        "worker.actor.strategy": (("fsdp",), "EasyR1 has no other; remove it"),
        "worker.rollout.name": (("vllm",), "EasyR1 has no other; remove it"),
        "worker.rollout.dtype": (("bf16", "fp16", "fp32"), "write one of bf16, fp16, fp32"),
    },
}


def notices(config: Config) -> list[str]:
    """Keys that somebody wrote and that change nothing; a line each."""
    return _placement_notices(config) if config.engine == "local" else []


@dataclass(frozen=True)
class Doubt:
    """A value that runs, and that nobody means: what is so, and what to do."""

    what: str
    change: str

    def __str__(self) -> str:
        return f"{self.what}; {self.change}"


def doubts(config: Config) -> list[Doubt]:
    """Values that run, and that nobody means."""
    return [*_of_objective(config), *_of_algorithm(config), *_of_weights(config)]


def _of_objective(config: Config) -> Iterable[Doubt]:
    actor, limit = config.worker.actor, config.data.max_response_length
    if actor.loss_type not in OBJECTIVES:
        return
    objective = OBJECTIVES[actor.loss_type]
    written = {key: getattr(actor, key) for key in objective.defaults}
    settings = {**objective.defaults, **{key: value for key, value in written.items() if value is not None}}
    constant, power = settings.get("length_constant", 0), settings.get("mean_power", 0)
    if constant > limit:
        yield Doubt(
            f"worker.actor.length_constant is {constant:g} and data.max_response_length {limit:,}: "
            "dr_grpo divides by a length that no response has, so its gradient is at most "
            f"{limit / constant:.2g} of grpo's",
            f"write worker.actor.length_constant={limit}",
        )
    if abs(power) > 100:
        end = "largest" if power > 0 else "smallest"
        yield Doubt(
            f"worker.actor.mean_power is {power:g}: the mean is nearly the {end} ratio, so one token of a "
            "response decides",
            "the means that have a name are from -1 to 1",
        )
    limits = [key for key in settings if key.startswith(("log_clip", "clip_ratio"))]
    if limits and objective.clips != "weight" and not any(settings[key] for key in limits):
        yield Doubt(
            f"worker.actor.{' and '.join(limits)} are 0: once a ratio has moved the way its advantage wants, "
            "it is clipped, so after a step's first update next to nothing is learned",
            f"null takes {actor.loss_type}'s own",
        )


def _of_algorithm(config: Config) -> Iterable[Doubt]:
    algorithm, papo = config.algorithm, config.algorithm.papo
    if algorithm.use_kl_loss and algorithm.kl_penalty in ("kl", "k1"):
        yield Doubt(
            "algorithm.kl_penalty kl (k1) as a loss has a gradient of mean 0: it adds noise and holds the "
            "policy nowhere",
            "low_var_kl does",
        )
    if papo.kl_prcp_coef > 1:
        yield Doubt(
            f"algorithm.papo.kl_prcp_coef is {papo.kl_prcp_coef:g}: above 1 the term outweighs the "
            "objective, and PAPO's authors saw rewards collapse above 0.02",
            "their own code has 0.01",
        )
    if papo.kl_prcp_coef and papo.black_prob == 1:
        yield Doubt(
            "algorithm.papo.black_prob is 1: every masked picture is wholly black, under which PAPO's "
            "authors saw rewards collapse",
            "their own code has 0.6",
        )
    weights = algorithm.reward_weights
    if weights and max(weights.values()) <= 0:
        yield Doubt(
            "algorithm.reward_weights has no weight above 0: the more of a part, the worse",
            "a part that is to grow has one above 0",
        )
    of = algorithm.rollout_correction
    for option in rejections(of.rollout_rs, of.rollout_rs_threshold) if of.rollout_rs is not None else ():
        if option.name.endswith("k1") and f"{math.exp(option.low):.5g}" == f"{math.exp(option.high):.5g}":
            yield Doubt(
                f"algorithm.rollout_correction.rollout_rs_threshold: {option.name} accepts no ratio but 1, "
                "so all that sampler and trainer do not agree on is rejected",
                'write wider limits, such as "0.5_2.0", with the quotes',
            )


def _of_weights(config: Config) -> Iterable[Doubt]:
    actor = config.worker.actor
    # Engine local leaves adapters in fp32, EasyR1 casts them too; its adamw_bf16 carries what rounding drops.
    local = config.engine == "local"
    kept = actor.model.lora.rank > 0 if local else actor.optim.strategy == "adamw_bf16"
    if actor.fsdp.torch_dtype == "bf16" and not kept:
        yield Doubt(
            "worker.actor.fsdp.torch_dtype bf16 keeps the weights themselves in bf16: steps of a small lr "
            "are rounded away",
            f"fp32 or {'LoRA train' if local else 'optim.strategy adamw_bf16 train'}",
        )


def _placement_notices(config: Config) -> list[str]:
    """Written keys that change no mathematics and that engine local has no use for."""
    placement = _matching(config.written, _PLACEMENT_ON_LOCAL, but=DTYPE_KEYS)
    lines = [f"placement keys, without use on engine local: {', '.join(placement)}"] if placement else []
    for part, patterns in _NO_SUCH_PART_ON_LOCAL.items():
        keys = _matching(config.written, patterns)
        lines += [f"engine local has no {part}, so without use: {', '.join(keys)}"] if keys else []
    return lines


def _matching(keys: Iterable[str], patterns: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    return sorted(k for k in keys if k not in but and any(fnmatchcase(k, p) for p in patterns))
