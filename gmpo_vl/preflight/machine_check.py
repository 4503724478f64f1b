"""The machine: its libraries, its memory, and the disk that the checkpoints must fit on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gmpo_vl.config import Config
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.sizing.estimate import BYTES
from gmpo_vl.sizing.memory import gib
from gmpo_vl.sizing.parameters import ModelSize

RUN_KEY = "trainer.save_checkpoint_path"

# constraints/cpu.txt and constraints/easyr1-cpu.txt (a test keeps them the same).
TESTED = {
    "torch": ("2.13.0",),
    "transformers": ("5.23.0", "4.57.6"),
    "datasets": ("5.2.0", "5.0.1"),
    "peft": ("0.21.2",),
    "pillow": ("13.0.0",),
    "omegaconf": ("2.4.0", "2.3.1"),
}
_SHARED_FILE_SYSTEMS = tuple("nfs nfs4 lustre gpfs beegfs ceph cifs fuse 9p glusterfs orangefs".split())


def device_memory() -> tuple[str, float]:
    """(name, bytes that are free) of what the model runs on."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), float(torch.cuda.mem_get_info()[0])
    return "this machine's memory (no GPU)", float(psutil.virtual_memory().available)


def run_folder(config: Config) -> Path:
    return Path(config.trainer.save_checkpoint_path or f"runs/{config.trainer.experiment_name}")


def existing_folder(folder: Path) -> Path:
    """The folder, or the nearest above it that is there.

    Raises NotADirectoryError or PermissionError where the folder cannot be made or written into.
    """
    there = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"nothing can be written into {there}")
    return there


def check_disk(config: Config, size: ModelSize | None) -> Iterator[Finding]:
    """A folder that can be written and that all nodes see; with a model, space for its checkpoints."""
    try:
        there = existing_folder(run_folder(config))
    except OSError as error:
        yield Finding("error", "disk", str(error), RUN_KEY, "name a folder that can be written")
        return
    if size is not None:
        yield _space(config, size, there)
    if config.trainer.nnodes > 1:
        yield _shared_by_nodes(there, config.trainer.nnodes)


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
        last = int(save_freq <= 0 or steps % save_freq > 0)
        kept = sum(steps // every for every in due if every > 0) + 1 + last
    free = shutil.disk_usage(there).free
    taken = f"a checkpoint takes {gib(one)}, up to {kept} of them {gib(one * kept)}"
    what = f"{taken}; {gib(free)} free under {there}"
    if one * kept > free:
        change = "set it, set trainer.save_model_only=true, or save elsewhere"
        return Finding("error", "disk", what, "trainer.save_limit", change)
    return Finding("ok", "disk", what)


def _shared_by_nodes(folder: Path, nodes: int) -> Finding:
    kind = file_system(folder)
    if kind is None or kind.startswith(_SHARED_FILE_SYSTEMS):
        written = f"{nodes} nodes write to {folder} ({kind or 'kind unknown'})"
        return Finding("note", "disk", f"{written}: it must be the same folder on all")
    what = f"{nodes} nodes, but {folder} is on {kind}, which other nodes do not see"
    change = (
        "name a folder on a shared file system: each node writes its part, and resuming needs all of them"
    )
    return Finding("warning", "disk", what, RUN_KEY, change)


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
        change = "constraints/ lists exact versions for pip install -c, or go on with care"
        yield Finding("warning", "versions", "; ".join(others), "", change)
    else:
        yield Finding("ok", "versions", "the libraries are those that were tested")
