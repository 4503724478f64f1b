"""EasyR1's weight sync, with checks that a LoRA adapter arrives in vLLM whole.

EasyR1 asks peft for an adapter's tensors layer by layer. peft >= 0.21 looks for them under their names in the
whole model, finds none, and vLLM would take the empty adapter without a word: every rollout would be the
starting model's.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from verl.workers import fsdp_workers
from verl.workers.sharding_manager import fsdp_vllm
from verl.workers.sharding_manager.fsdp_vllm import FSDPVLLMShardingManager

ADAPTER = "default"  # peft's name for the one adapter of a model
_WRAPPER = "_fsdp_wrapped_module."


def use_checked_sync() -> None:
    """From here on EasyR1's workers in this process use CheckedSync, and find adapters' tensors by name."""
    fsdp_workers.FSDPVLLMShardingManager = CheckedSync
    fsdp_vllm.get_peft_model_state_dict = adapter_tensors


class CheckedSync(FSDPVLLMShardingManager):
    """EasyR1's own. Raises ValueError where an adapter would not reach the sampler whole."""

    def _collect_lora_weights(self) -> dict[str, torch.Tensor]:
        tensors = super()._collect_lora_weights()
        check_complete(tensors, adapted_modules(self.module))
        return tensors

    def _sync_weight_to_vllm(self) -> None:
        super()._sync_weight_to_vllm()
        if self.is_lora:
            worker = self.inference_engine.llm_engine.model_executor.driver_worker.worker
            manager = worker.model_runner.lora_manager._adapter_manager
            for adapter in manager.list_adapters().values():
                check_placed(adapter.loras, manager.modules)


def adapter_tensors(_model: Any, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The adapter's part of a module's state dict, without the adapter's name, as peft <= 0.20 answered."""
    middle = f".{ADAPTER}."
    return {
        name.replace(middle, "."): value
        for name, value in state_dict.items()
        if ".lora_" in name and middle in name
    }


def adapted_modules(model: torch.nn.Module) -> set[str]:
    """Names of the modules that carry an adapter, without FSDP's wrappers."""
    return {
        name.replace(_WRAPPER, "")
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer) and ADAPTER in module.r
    }


def check_complete(tensors: Mapping[str, torch.Tensor], modules: Collection[str]) -> None:
    """Raise ValueError unless `tensors` hold both factors of every adapted module, of one at least."""
    wanted = {f"{name}.lora_{factor}.weight" for name in modules for factor in "AB"}
    missing = sorted(wanted - set(tensors))
    if missing or not wanted:
        raise ValueError(
            f"LoRA: {len(wanted) - len(missing)} of the adapter's {len(wanted)} tensors were found for the "
            f"sampler{f' (not {missing[0]})' if missing else ''}: its rollouts would not be the policy's. "
            "EasyR1 brings over what lies in the language model's layers; set "
            "worker.actor.model.lora.target_modules to layers of it"
        )


def check_placed(adapted: Collection[str], places: Collection[str]) -> None:
    """Raise ValueError unless vLLM has a place for every module of an adapter it holds."""
    without = sorted(set(adapted) - set(places))
    if without or not adapted:
        what = "an empty adapter"
        if without:
            what = f"no place for {len(without)} of the adapter's modules ({without[0]})"
        raise ValueError(
            f"LoRA: vLLM has {what}: its rollouts would not be the policy's. Leave such layers out of "
            "worker.actor.model.lora.target_modules (q_proj,k_proj,v_proj,o_proj always have a place)"
        )
