"""The machine: does a step fit into memory, do the checkpoints fit on the disk, are the libraries those that were tested?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gmpo_vl.config import Config
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.sizing.estimate import BYTES, ModelSize
from gmpo_vl.sizing.fitting import USABLE_GPU, gpu_memory
from gmpo_vl.sizing.memory import Estimate, gib, parts_table

# What a step may take of a host's memory: the rest is for the allocator's gaps, libraries and kernels.
USABLE = 0.9

# constraints/cpu.txt and constraints/easyr1-cpu.txt (a test keeps them the same).
TESTED = {
    "torch": ("2.13.0",),
    "transformers": ("5.23.0", "4.57.6"),
    "datasets": ("5.2.0", "5.0.1"),
    "peft": ("0.21.2",),
    "pillow": ("13.0.0",),
    "omegaconf": ("2.4.0", "2.3.1"),
}
_SHARED_FILE_SYSTEMS = (
    "nfs",
    "nfs4",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse",
    "9p",
    "glusterfs",
    "orangefs",
)


def device_memory() -> tuple[str, float]:
    """(name, bytes that are free) of what the model runs on."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), float(torch.cuda.mem_get_info()[0])
    return "this machine's memory (no GPU)", float(psutil.virtual_memory().available)


def check_memory(found: Estimate, device: tuple[str, float] | None) -> Iterator[Finding]:
    """The estimate part by part, against what is free on the device (name, bytes); None: it is not this machine's."""
    table = "\n".join(parts_table(found))
    if device is None:
        yield Finding(
            "note", "memory", f"{gib(found.peak)} on each GPU; there is none here to compare with\n{table}"
        )
        return
    name, free = device
    gpu = gpu_memory()
    if found.peak <= (USABLE * free if gpu is None else min(free, USABLE_GPU * gpu)):
        yield Finding("ok", "memory", f"{gib(found.peak)} of {gib(free)} free on {name}\n{table}")
        return
    yield Finding(
        "error",
        "memory",
        f"{gib(found.peak)} needed, {gib(free)} free on {name}\n{table}",
        max(("generate", "log_probs", "update"), key=found.of_phase),
        advice(found),
    )


def advice(found: Estimate) -> str:
    """What makes the largest part smaller."""
    phase = max(("generate", "log_probs", "update"), key=found.of_phase)
    largest = max((*found.held, *getattr(found, phase)), key=lambda part: part.bytes).name
    return {
        "weights": "a smaller model, or worker.actor.fsdp.torch_dtype=bf16 with worker.actor.model.lora.rank=64",
        "gradients": "worker.actor.model.lora.rank=64 trains adapters only",
        "optimizer": "worker.actor.model.lora.rank=64 trains adapters only",
        "activations": "worker.actor.model.enable_gradient_checkpointing=true, or fewer worker.actor.max_tokens_per_micro_batch",
        "pictures": "lower data.max_pixels, or worker.actor.model.freeze_vision_tower=true",
        "logits": "lower worker.actor.max_tokens_per_micro_batch",
        "one layer": "lower worker.actor.max_tokens_per_micro_batch",
        **dict.fromkeys(
            ("KV cache", "prompts' KV cache", "mask", "features", "sampling"),
            "lower worker.rollout.max_cached_tokens",
        ),
        "vLLM": "lower worker.rollout.gpu_memory_utilization",
        "reference": "worker.ref.fsdp.enable_cpu_offload=true, or algorithm.disable_kl=true as the paper",
        "gathered": "worker.actor.fsdp.enable_full_shard=true; where it is, a smaller model or LoRA",
        "gathered ViT": "worker.actor.fsdp.enable_full_shard=true",
        "gathered reference": "worker.ref.fsdp.enable_full_shard=true",
        "unsummed": "worker.actor.model.lora.rank=64 trains adapters only",
    }.get(largest, "lower worker.actor.max_tokens_per_micro_batch")


def check_disk(config: Config, size: ModelSize | None) -> Iterator[Finding]:
    """A folder that can be written and that all nodes see; with a model, space for its checkpoints."""
    trainer = config.trainer
    folder = Path(trainer.save_checkpoint_path or f"runs/{trainer.experiment_name}")
    there = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = (
            f"nothing can be written into {there}" if there.is_dir() else f"{there} is a file, not a folder"
        )
        yield Finding(
            "error", "disk", what, "trainer.save_checkpoint_path", "name a folder that can be written"
        )
        return
    if size is not None:
        yield _space(config, size, there)
    if trainer.nnodes > 1:
        yield from _check_shared(there, trainer.nnodes)


def _space(config: Config, size: ModelSize, there: Path) -> Finding:
    """For the checkpoints that are kept and the one that is being written."""
    trainer = config.trainer
    weights = size.parameters * BYTES[config.worker.actor.fsdp.torch_dtype or "fp32"]
    one = weights * (1 if trainer.save_model_only else 3)
    if trainer.save_limit > 0:
        kept = trainer.save_limit + int(trainer.save_best) + 1
    else:  # besides the last and a stop's: those that are due, and each validation that is the best so far
        steps, save_freq = trainer.max_steps or 1, trainer.save_freq
        due = [save_freq, trainer.val_freq if trainer.save_best else -1]
        kept = (
            sum(steps // every for every in due if every > 0)
            + 1
            + int(save_freq <= 0 or steps % save_freq > 0)
        )
    free = shutil.disk_usage(there).free
    what = f"a checkpoint takes {gib(one)}, up to {kept} of them {gib(one * kept)}; {gib(free)} free under {there}"
    if one * kept > free:
        change = "set it, set trainer.save_model_only=true, or save elsewhere"
        return Finding("error", "disk", what, "trainer.save_limit", change)
    return Finding("ok", "disk", what)


def _check_shared(folder: Path, nodes: int) -> Iterator[Finding]:
    kind = file_system(folder)
    if kind is None or kind.startswith(_SHARED_FILE_SYSTEMS):
        yield Finding(
            "note",
            "disk",
            f"{nodes} nodes write to {folder} ({kind or 'kind unknown'}): it must be the same folder on all",
        )
        return
    yield Finding(
        "warning",
        "disk",
        f"{nodes} nodes, but {folder} is on {kind}, which other nodes do not see",
        "trainer.save_checkpoint_path",
        "name a folder on a shared file system: each node writes its part, and resuming needs all of them",
    )


def file_system(folder: Path) -> str | None:
    """The kind of file system a folder is on, from the kernel's table; None where there is none to read."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return None
    best = ("", None)
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, *_ = line.split()
        if folder.resolve().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def check_versions() -> Iterator[Finding]:
    """Libraries other than those the suite was run with."""
    others = []
    for name, tested in TESTED.items():
        try:
            here = version(name).partition("+")[0]
        except PackageNotFoundError:
            here = "missing"
        if here not in tested:
            others.append(f"{name} {here} (tested: {', '.join(tested)})")
    if others:
        yield Finding(
            "warning",
            "versions",
            "; ".join(others),
            "",
            "constraints/ lists exact versions for pip install -c, or go on with care",
        )
    else:
        yield Finding("ok", "versions", "the libraries are those that were tested")
