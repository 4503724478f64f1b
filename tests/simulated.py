"""A device without hardware: CPU data that say they lie on `sim:0`. Mixing it with the CPU raises, as CUDA would; collectives
take its tensors and no others, as nccl's do.

    with simulated_device(): ...; on_device(model)
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import cache

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

# These take tensors of the other device, too: copies, and a CPU index into a tensor of the device.
_MAY_MIX = {"_to_copy", "copy_", "index", "index_put_", "_index_put_impl_", "_unsafe_index", "lift_fresh"}


class Simulated(torch.Tensor):
    """inner: the data, on the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device("sim:0"),
        )  # fmt: skip
        tensor.inner = inner
        return tensor

    def tolist(self):
        return self.detach().to("cpu").tolist()

    def __repr__(self):
        return f"Simulated({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _inner(value):
    return value.inner if isinstance(value, Simulated) else value


def _run(func, args, kwargs):
    name = func.overloadpacket.__name__
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    here = [x for x in tensors if isinstance(x, Simulated)]
    elsewhere = [x for x in tensors if not isinstance(x, Simulated) and x.dim() > 0]
    indexes_cpu = name == "index" and bool(here) and not isinstance(args[0], Simulated)
    if here and (indexes_cpu or (elsewhere and name not in _MAY_MIX)):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found sim:0 and cpu")
    on_device = bool(here)
    kwargs = dict(kwargs)
    if kwargs.get("device") is not None:
        on_device = torch.device(kwargs["device"]).type == "sim"
        kwargs["device"] = torch.device("cpu")
    kwargs.pop("pin_memory", None)
    with _disable_current_modes():
        result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if not on_device:
        return result
    known = {id(x.inner): x for x in here}  # what is changed in place stays the object that it is

    def wrap(value):
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else Simulated(value)

    return tree_map(wrap, result)


@cache
def _register() -> None:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend("sim")
    torch.sim.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]  # type: ignore[attr-defined]
    library = torch.library.Library("aten", "IMPL")

    def copy_from(source, target, non_blocking=False):
        with _disable_current_modes():
            _inner(target).copy_(_inner(source))
        return target

    def empty(size, *, dtype=None, **_):
        return Simulated(torch.empty(size, dtype=dtype))

    def empty_strided(size, stride, *, dtype=None, **_):
        return Simulated(torch.empty_strided(size, stride, dtype=dtype))

    for name, function in {
        "empty.memory_format": empty,
        "empty_strided": empty_strided,
        "_copy_from": copy_from,
    }.items():
        library.impl(name, function, "PrivateUse1")
    _register.library = library  # type: ignore[attr-defined]  # it takes its functions back when it goes


@contextmanager
def simulated_device():
    """Inside, `sim:0` is a device. Gradients are computed on this thread, which knows of it."""
    _register()
    with _Mode():
        x = torch.nn.Parameter(Simulated(torch.ones(1)))
        torch.autograd.grad((x * 2).sum(), x)  # autograd's device thread, once
        with torch.autograd.set_multithreading_enabled(False):
            yield torch.device("sim:0")


def on_device(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, with parameters and buffers on the device."""
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = torch.nn.Parameter(Simulated(p.data), p.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = Simulated(buffer)
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):  # transformers keeps a rotation's first frequencies so
                setattr(module, name, Simulated(value))
    return model


@contextmanager
def guarded_collectives():
    """Inside, torch.distributed refuses CPU tensors. Gives the names of the functions that called it."""
    callers: set[str] = set()
    names = ("all_reduce", "all_gather")
    real = {name: getattr(dist, name) for name in names}

    def guarded(name):
        def call(*args, **kwargs):
            callers.add(sys._getframe(1).f_code.co_name)
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            if not all(isinstance(x, Simulated) for x in tensors):
                raise RuntimeError(f"{name}: no backend for CPU tensors")
            with _disable_current_modes():
                return real[name](*tree_map(_inner, args), **tree_map(_inner, kwargs))

        return call

    for name in names:
        setattr(dist, name, guarded(name))
    try:
        yield callers
    finally:
        for name in names:
            setattr(dist, name, real[name])
