"""Keys that change the mathematics and of which an engine honours some values only. A key absent here is honoured as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KL_KINDS = ("kl", "k1", "mse", "k2", "low_var_kl", "k3", "abs")
DTYPE_KEYS = ("worker.actor.fsdp.torch_dtype", "worker.actor.fsdp.mp_param_dtype")

# {key: (the values that are honoured, why not the others)}
_Honoured = Mapping[str, tuple[tuple[Any, ...], str]]

_BY_BOTH: _Honoured = {
    "algorithm.adv_estimator": (("grpo", "grpo_no_std"), "it has group advantages only"),
    "algorithm.gamma": ((1.0,), "a discount belongs to adv_estimator gae; remove it"),
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
HONOURED: Mapping[str, _Honoured] = {
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
