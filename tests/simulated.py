"""A device without hardware: CPU data that say they lie on `sim:0`, and `is_cuda` of themselves.

    @apart
    def test_something(fixture):
        with simulated_device():
            on_device(model)
            with synchronisations() as waits:
                ...
        waits.total()

Mixing it with the CPU raises as CUDA would, autocast casts, and what the CPU waits for is counted by place.
Collectives take its tensors and no others, as nccl's do.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial, wraps

import torch
import torch.distributed as dist
import torch.utils.backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

# torch before 2.10 has no device written in Python.
SIMULATES = hasattr(os, "fork") and hasattr(
    torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"
)
COPYING = {"_to_copy", "copy_", "lift_fresh"}
# Indices may lie on the CPU: CUDA copies them, and the CPU waits.
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
# Others take a CPU's tensor of no dimension beside the device's, as a number.
NO_NUMBERS = {"cat", "stack", "gather", "scatter", "index_select", "embedding", "masked_scatter"}
# They give a number, or a tensor whose size the device must say.
WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2", "unique_dim",
    "unique_consecutive", "repeat_interleave",
}  # fmt: skip
IN_A_LAYER = "in a layer: "  # of the decoder
# What CUDA's autocast casts, of the operations that the models here run.
HALF = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv3d", "scaled_dot_product_attention")
FLOAT32 = (
    *("softmax.int", "log_softmax.int", "layer_norm", "cumsum", "sum", "sum.dim_IntList"),
    *("exp", "log", "rsqrt"),
)


class Simulated(torch.Tensor):
    """held: the data, on the CPU."""

    held: torch.Tensor
    is_cuda = property(lambda self: True)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("sim:0"),
        )
        tensor.held = inner
        return tensor

    def tolist(self):
        return self.detach().to("cpu").tolist()

    def __repr__(self):
        return f"Simulated({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _held(value):
    """What an operation is run on: data where `value` (tensors, nested in any way) lies on the device."""
    if isinstance(value, tuple | list):
        return type(value)(map(_held, value))
    if isinstance(value, dict):
        return {key: _held(x) for key, x in value.items()}
    return value.held if isinstance(value, Simulated) else value


def _tensors(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [x for part in parts for x in _tensors(part)]


def _run(func, args, kwargs):
    name = func.overloadpacket.__name__
    here = [x for x in _tensors((args, kwargs)) if isinstance(x, Simulated)]
    if here and _refused(name, args, kwargs):
        _refuse(f"{func}: expected all tensors to be on the same device, found sim:0 and cpu")
    on_device = bool(here)
    kwargs = dict(kwargs)
    if (
        name in COPYING
        and here
        and kwargs.get("non_blocking")
        and torch.device(kwargs.get("device") or "sim").type == "cpu"
    ):
        _refuse(f"{func}: the CPU may read this copy before the device has written it (non_blocking=True)")
    if kwargs.get("device") is not None:
        on_device = torch.device(kwargs["device"]).type == "sim"
        kwargs["device"] = torch.device("cpu")
    kwargs.pop("pin_memory", None)
    drawn_by = kwargs.get("generator")
    if on_device and drawn_by is not None and drawn_by.device.type == "cpu":
        _refuse(f"{func}: expected a 'sim' device type for generator but found 'cpu'")
    if (here or on_device) and _waits(name, args, bool(here), on_device):
        _count(name)
    args, kwargs = _held(args), _held(kwargs)
    with torch._C._DisableTorchDispatch():
        if name == "histc" and not args[0].is_floating_point():  # CUDA alone counts integers
            result = func(args[0].double(), *args[1:], **kwargs).to(args[0].dtype)
        else:
            result = func(*args, **kwargs)
    known = {id(x.held): x for x in here}  # what is changed in place stays the object that it is
    return _wrapped(result, known) if on_device else result


def _wrapped(value, known):
    if isinstance(value, tuple | list):
        return type(value)(_wrapped(x, known) for x in value)
    if not isinstance(value, torch.Tensor):
        return value
    return known[id(value)] if id(value) in known else Simulated(value)


def _refused(name: str, args, kwargs) -> bool:
    """Does CUDA refuse these tensors, some of them the device's, because of where they lie?"""
    if name in COPYING:
        return False
    if name in INDEXING:
        target, _, *values = args
        args, kwargs = (target, *values), {}
        if not isinstance(target, Simulated):
            return True
    elsewhere = [x for x in _tensors((args, kwargs)) if not isinstance(x, Simulated)]
    return any(x.dim() > 0 or name in NO_NUMBERS for x in elsewhere)


def _waits(name: str, args, was_on_device: bool, is_on_device: bool) -> bool:
    """Does the CPU wait for the device here?"""
    if name in COPYING:
        source = args[1] if name == "copy_" else args[0]
        from_cpu = name == "copy_" and not isinstance(source, Simulated) and source.dim() > 0
        return was_on_device != is_on_device or from_cpu
    if name not in INDEXING:
        return name in WAITING
    indices = _tensors(args[1])
    on_cpu = any(not isinstance(x, Simulated) and x.dim() > 0 for x in indices)
    masks = any(x.dtype in (torch.bool, torch.uint8) for x in indices)
    fills = name != "index" and args[2].numel() == 1  # a mask and one value: masked_fill
    return on_cpu or (masks and not fills)


_waited: Counter[str] | None = None
_found_in_backward: list[str] = []


def _place() -> str:
    """`gmpo_vl/folder/file.py function` of the nearest call in the project, or in transformers where that is
    nearer; `in a
    layer: ` before it inside a decoder's layer."""
    place, frame = "", sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        known = re.search(r"(gmpo_vl|transformers)/(?!.*\1/).*", code.co_filename)
        if not place and known is not None:
            place = f"{known[0]} {code.co_name}"
        if code.co_name == "forward" and type(frame.f_locals.get("self")).__name__.endswith("DecoderLayer"):
            return f"{IN_A_LAYER}{place}"
        frame = frame.f_back
    return place


def _count(name: str) -> None:
    if _waited is not None:
        _waited[f"{_place()}: {name}"] += 1


def _refuse(message: str) -> None:
    """Raise it; inside a backward after it, since torch's guard of Python devices ends the process when it
    is left by an error.
    """
    if torch._C._current_graph_task_id() == -1:
        raise RuntimeError(message)
    _found_in_backward.append(message)


@contextmanager
def synchronisations() -> Iterator[Counter[str]]:
    """Counts what the CPU waits for, by place: `[in a layer: ]gmpo_vl/folder/file.py function: operation`."""
    global _waited
    before, _waited = _waited, Counter()
    try:
        yield _waited
    finally:
        _waited = before


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """The test in a fork of this process: torch forgets no device that it was told of, and starts no autograd
    in a fork of a process that has one. Raises what the test raises, RuntimeError where its process ends
    otherwise.
    """

    @wraps(test)
    def run(*args, **kwargs) -> None:
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_tell, args=(sender, partial(test, *args, **kwargs)))
        child.start()
        sender.close()
        try:
            raised = pickle.loads(receiver.recv_bytes())
        except EOFError:
            child.join()
            raise RuntimeError(f"the test's process ended with {child.exitcode}") from None
        child.join()
        if raised is not None:
            raise raised

    return run


def _tell(sender, test: Callable[[], None]) -> None:
    raised = None
    try:
        test()
    except BaseException as error:
        traceback.print_exc()
        raised = error
    sender.send_bytes(pickle.dumps(raised))


@cache
def _register() -> None:
    torch.utils.backend_registration._setup_privateuseone_for_python_backend("sim")
    torch.sim.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]  # type: ignore[attr-defined]
    library = torch.library.Library("aten", "IMPL")

    def copy_from(source, target, non_blocking=False):
        _count("copy_")
        with torch._C._DisableTorchDispatch():
            _held(target).copy_(_held(source))
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
    for name in (*HALF, *FLOAT32):
        library.impl(name, partial(_cast, name), "AutocastPrivateUse1")
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _register.libraries = library, everything  # type: ignore[attr-defined]  # they take their functions back when they go


def _cast(name: str, *args, **kwargs):
    """An operation under autocast."""
    packet, _, overload = name.partition(".")
    dtype = torch.get_autocast_dtype("sim") if name in HALF else torch.float32

    def cast(value):
        floats = (
            isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64
        )
        return value.to(dtype) if floats else value

    with torch.autocast("sim", enabled=False):
        function = getattr(getattr(torch.ops.aten, packet), overload or "default")
        return function(*tree_map(cast, args), **tree_map(cast, kwargs))


@contextmanager
def simulated_device() -> Iterator[torch.device]:
    """Inside, `sim:0` is a device. Gradients are computed on this thread, which knows of it.

    Raises RuntimeError for tensors of both devices in one operation: there, or when the backward that it is
    part of is over.
    """
    _register()
    _found_in_backward.clear()
    backward = torch.autograd.backward

    def raise_what_was_found():
        found = "; ".join(_found_in_backward)
        _found_in_backward.clear()
        if found:
            raise RuntimeError(found)

    def checked(*args, **kwargs):
        backward(*args, **kwargs)
        raise_what_was_found()

    torch.autograd.backward = checked
    try:
        with _Mode(), torch.autograd.set_multithreading_enabled(False):
            yield torch.device("sim:0")
        raise_what_was_found()  # by other ways into a backward
    finally:
        torch.autograd.backward = backward


def on_device(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, with parameters and buffers on the device; shared ones stay shared."""
    moved: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = moved.setdefault(
                    p, torch.nn.Parameter(Simulated(p.data), p.requires_grad)
                )
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = Simulated(buffer)
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):  # transformers keeps a rotation's first frequencies so
                setattr(module, name, Simulated(value))
    inner = getattr(model, "model", None)
    if hasattr(inner, "get_rope_index"):
        inner.get_rope_index = _on_the_cpu(inner.get_rope_index)
    return model


def _on_the_cpu(places):
    """transformers' own positions make a tensor of a list of tensors, which no dispatch sees. On a GPU that
    is a wait in the model's own forward, which only the parity check calls."""

    def move(value, device):
        return value.to(device) if isinstance(value, torch.Tensor) else value

    def call(ids, *args, **kwargs):
        moved = [move(value, "cpu") for value in (ids, *args)]
        found = places(*moved, **{name: move(value, "cpu") for name, value in kwargs.items()})
        return tuple(move(value, ids.device) for value in found)

    return call


# Everything of torch.distributed that sends tensors. (What takes Python objects makes its own tensors, on the
# device.)
COLLECTIVES = (
    *(
        "all_reduce",
        "all_reduce_coalesced",
        "reduce",
        "broadcast",
        "send",
        "recv",
        "isend",
        "irecv",
        "scatter",
        "gather",
    ),
    *(
        "all_gather",
        "all_gather_coalesced",
        "all_gather_into_tensor",
        "reduce_scatter",
        "reduce_scatter_tensor",
    ),
    *("all_to_all", "all_to_all_single"),
)


@contextmanager
def guarded_collectives():
    """Inside, torch.distributed refuses CPU tensors. Gives the names of the functions that called it."""
    callers: set[str] = set()
    names = COLLECTIVES
    real = {name: getattr(dist, name) for name in names}

    def guarded(name):
        def call(*args, **kwargs):
            callers.add(sys._getframe(1).f_code.co_name)
            if not all(isinstance(x, Simulated) for x in _tensors((args, kwargs))):
                raise RuntimeError(f"{name}: no backend for CPU tensors")
            with torch._C._DisableTorchDispatch():
                return real[name](*_held(args), **_held(kwargs))

        return call

    for name in names:
        setattr(dist, name, guarded(name))
    try:
        yield callers
    finally:
        for name in names:
            setattr(dist, name, real[name])
