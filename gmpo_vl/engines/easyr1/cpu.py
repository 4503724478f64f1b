"""The EasyR1 engine without a GPU, for tests and for trying a config on a laptop: gloo, SDPA, rollouts by
transformers.

Where vLLM was built for CPUs, it makes the rollouts (cpu_vllm.py). EasyR1 asks torch for CUDA in a dozen
places. Each of its modules gets a `torch` of its own, which answers for the CPU; torch itself stays as it is.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import torch
import torch.distributed as dist
import transformers
from peft import get_peft_model
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from verl.protocol import DataProto
from verl.single_controller.base import Worker

from gmpo_vl.engines.easyr1.config import GMPOWorkerConfig
from gmpo_vl.engines.easyr1.cpu_vllm import let_vllm_run, vllm_is_for_cpus
from gmpo_vl.engines.easyr1.serialisation import answers_to_proto, asked
from gmpo_vl.engines.easyr1.worker import GMPOWorker
from gmpo_vl.models.loading import load_model, model_folder
from gmpo_vl.models.processing import Processor
from gmpo_vl.rollout.hf import generate

CPU = torch.device("cpu")


def stand_in_for_cuda() -> None:
    """Let EasyR1's modules in this process believe that the CPU is their GPU."""
    workers: Any = importlib.import_module("verl.workers.fsdp_workers")  # which imports the others
    for name, module in list(sys.modules.items()):
        if name.startswith("verl.") and getattr(module, "torch", None) is torch:
            module.torch = TORCH_ON_CPU  # type: ignore[attr-defined]
    workers.init_device_mesh = lambda _device, **shape: init_device_mesh("cpu", **shape)
    if not vllm_is_for_cpus():  # vLLM brings torchvision, which AutoProcessor wants for video
        workers.get_processor = lambda *_, **__: None
    for name in ("AutoModelForCausalLM", "AutoModelForImageTextToText"):
        setattr(workers, name, _on_cpu(getattr(transformers, name)))


class _TorchOnCPU(ModuleType):
    """`torch`, but for what it says of GPUs."""

    cuda = SimpleNamespace(
        current_device=lambda: CPU,
        get_device_name=lambda *_: "CPU",
        is_available=lambda: False,
        mem_get_info=lambda *_: (psutil.virtual_memory().available, psutil.virtual_memory().total),
        max_memory_allocated=lambda *_: 0,
        max_memory_reserved=lambda *_: 0,
        empty_cache=lambda: None,
        get_rng_state=torch.get_rng_state,
        set_rng_state=lambda _state: None,  # the CPU's own is restored under its own name
        manual_seed=lambda _seed: None,
    )

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def device(self, kind: Any, *index: int) -> torch.device:
        return CPU if kind == "cuda" else torch.device(kind, *index)

    def tensor(self, *values: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        return torch.tensor(*values, device=CPU if device == "cuda" else device, **kwargs)


TORCH_ON_CPU = _TorchOnCPU("torch")


def _on_cpu(auto_class: Any) -> Any:
    """An Auto class of transformers that loads with SDPA, to the CPU."""

    class OnCPU(auto_class):
        @classmethod
        def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
            kwargs |= {"attn_implementation": "sdpa", "device_map": None, "trust_remote_code": False}
            return auto_class.from_pretrained(*args, **kwargs)

    return OnCPU


class _Base(Worker):
    """The first base, as in worker.py; here it prepares the process before anybody asks for a GPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        stand_in_for_cuda()
        super().__init__(*args, **kwargs)


class CPUWorker(_Base, GMPOWorker):
    """A GMPOWorker whose rollouts are made on the CPU."""

    def __init__(self, config: GMPOWorkerConfig, role: str) -> None:
        torch.set_num_threads(1)
        if not dist.is_initialized():
            dist.init_process_group("gloo")
        super().__init__(config, role)

    def _build_rollout(self) -> None:
        if vllm_is_for_cpus():
            let_vllm_run()
            super()._build_rollout()
            return
        run = self.config.run
        assert run is not None
        of = run.worker.actor.model
        model: Any = load_model(model_folder(str(of.model_path)), **of.override_config)
        if self._is_lora:
            model = get_peft_model(model, self.fsdp_module._fsdp_wrapped_module.peft_config["default"])
        rollout = HFRollout(model.requires_grad_(False).eval(), self.fsdp_module)
        self.rollout = self.rollout_sharding_manager = rollout


class HFRollout:
    """Answers prompts with its own copy of the model. It syncs weights under the names that EasyR1 calls."""

    freed_bytes = 0

    def __init__(self, model: Any, sharded: Any) -> None:
        self.model, self.sharded = model, sharded

    def begin(self, processor: Processor, _banned_ids: Sequence[int], _ends: Sequence[int]) -> None:
        self.processor = processor

    def generate_sequences(self, prompts: DataProto) -> DataProto:
        wanted, positions, sampling = asked(prompts)
        groups = generate(self.model, self.processor, wanted, sampling, positions)
        return answers_to_proto([group.responses for group in groups])

    def load_vllm_and_sync_weights(self) -> None:
        weights = {
            name: value.full_tensor() if isinstance(value, DTensor) else value
            for name, value in get_model_state_dict(self.sharded).items()
        }
        self.model.load_state_dict(weights)

    def offload_vllm(self) -> None:
        pass

    def preprocess_data(self, data: DataProto) -> DataProto:
        return data

    postprocess_data = preprocess_data
