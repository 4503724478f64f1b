"""The model's part of a checkpoint on engine easyr1: EasyR1's shards. Imports nothing of EasyR1.

step_000010/actor/     a rank: files of weights, optimizer state and the rest, under EasyR1's names;
                       huggingface/: configuration and tokenizer (`gmpo-vl export` adds the weights)
step_000010/trainer/   parity.pt: what an export must reproduce (export.py)
All ranks write into one folder: on several nodes it must be on a file system that they share.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta

from gmpo_vl.config import Config
from gmpo_vl.engines.easyr1.limits import ranks_of
from gmpo_vl.storage.tensors import in_short

FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def shards(folder: Path) -> list[tuple[int, int]]:
    """(world size, rank) of every file of weights in an `actor` folder, in order."""
    names = [
        re.fullmatch(r"model_world_size_(\d+)_rank_(\d+)\.pt", path.name) for path in folder.glob("*.pt")
    ]
    return sorted((int(name[1]), int(name[2])) for name in names if name)


def files_of_rank(folder: Path, world: int, rank: int) -> list[str]:
    """Names of the files that a rank wrote into an `actor` folder."""
    return sorted(path.name for path in folder.glob(f"*_world_size_{world}_rank_{rank}.pt"))


_RECONSTRUCT = np.zeros(0).__reduce__()[0]
# What EasyR1's shards hold beside plain values and tensors: where a shard belongs, and numpy's random state.
PLAIN = [
    *(DTensor, DTensorSpec, TensorMeta, DeviceMesh, Shard, Replicate),
    *(np.ndarray, np.dtype, type(np.dtype(np.uint32))),
    *((_RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),  # numpy 1 and 2
]


@contextmanager
def only_values() -> Iterator[None]:
    """Within it torch.load unpickles plain values, tensors and PLAIN alone, although EasyR1 asks for
    everything.

    Raises ValueError for a file that holds more.
    """
    before = os.environ.get(FORCED)
    os.environ[FORCED] = "1"
    try:
        with torch.serialization.safe_globals(PLAIN):
            yield
    except UnpicklingError as error:
        raise ValueError(
            f"a rank's file holds more than values and tensors, nothing of it was run: {in_short(error)}"
        ) from error
    finally:
        os.environ.pop(FORCED)
        os.environ |= {} if before is None else {FORCED: before}


def check_whole(actor: Path, ranks: int) -> None:
    """Raise OSError where not every rank's weights arrived in a checkpoint's `actor` folder."""
    found = len(shards(actor))
    if found != ranks:
        raise OSError(
            f"{found} of {ranks} ranks' weights arrived in {actor}: on several nodes "
            "trainer.save_checkpoint_path must be on a file system that all of them share"
        )


def check_checkpoint(folder: Path, config: Config) -> None:
    """Raise ValueError, with the way out, where this run cannot go on from there. Ray is not started yet."""
    found = shards(folder / "actor")
    if not found:
        raise ValueError(f"{folder} is no checkpoint of engine easyr1 (no actor/model_world_size_*.pt in it)")
    saved_on = {world for world, _ in found}
    ranks = ranks_of(config)
    if saved_on != {ranks} or len(found) != ranks:
        raise ValueError(
            f"{folder} was saved by {max(saved_on)} GPUs ({len(found)} shards), this run has {ranks} "
            "(trainer.nnodes x trainer.n_gpus_per_node): EasyR1's shards load on the same number only. To "
            f"go on with other GPUs: gmpo-vl export {folder} FOLDER, then another experiment_name with "
            "worker.actor.model.model_path=FOLDER (the optimizer starts afresh)"
        )
