"""verl's FSDP2 engine on a CPU: a platform for gloo, as verl's own are for nccl and hccl.

Imported by VERL_USE_EXTERNAL_MODULES in every process, with VERL_PLATFORM=cpu.
"""

import contextlib
import types

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

_GIB = 1 << 30


def _nothing(*args, **kwargs):
    return None


def _zero(*args, **kwargs):
    return 0


def _cpu_device() -> types.ModuleType:
    """What verl calls as `torch.cuda`."""
    module = types.ModuleType("cpu_device")
    for name in (
        *("empty_cache", "synchronize", "reset_peak_memory_stats", "set_device", "manual_seed"),
        *("manual_seed_all", "ipc_collect", "init"),
    ):
        setattr(module, name, _nothing)
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
        setattr(module, name, _zero)
    known = {
        "mem_get_info": lambda *_: (8 * _GIB, 16 * _GIB),
        "current_device": lambda: torch.device("cpu"),
        "device_count": lambda: 1,
        "is_available": lambda: True,
        "get_device_name": lambda *_: "cpu",
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "get_device_properties": lambda *_: types.SimpleNamespace(total_memory=16 * _GIB),
    }
    for name, value in known.items():
        setattr(module, name, value)
    return module


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _cpu_device()

    def is_available(self):
        return True

    def current_device(self):
        return torch.device("cpu")

    def device_count(self):
        return 1

    def set_device(self, index):
        pass

    def synchronize(self, index=None):
        pass

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    def manual_seed_all(self, seed):
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings):
        pass

    def empty_cache(self):
        pass

    def get_device_capability(self, index=0):
        return (None, None)

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, message):
        return contextlib.nullcontext()

    def profiler_start(self):
        pass

    def profiler_stop(self):
        pass

    def ray_resource_name(self):
        return "GPU"

    def ray_noset_envvars(self):
        return []

    def is_ipc_supported(self):
        return False

    def cudart(self):
        return None


def register_engine() -> None:
    """The FSDP engine for device `cpu`, once in a process."""
    from verl.workers.engine import EngineRegistry
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    if not getattr(register_engine, "done", False):
        register = EngineRegistry.register(
            model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu"
        )
        register(FSDPEngineWithLMHead)
        register_engine.done = True  # type: ignore[attr-defined]
