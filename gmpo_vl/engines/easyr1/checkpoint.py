"""What this engine keeps of its model in a checkpoint: EasyR1's shards.

step_000010/actor/     one file of weights, one of optimizer state and one of the rest per rank, under EasyR1's names;
                       huggingface/: configuration and tokenizer, without weights (`gmpo-vl export` puts them in)
step_000010/trainer/   parity.pt: what an export must reproduce (export.py)
All ranks write into one folder: on several nodes it must be on a file system that they share. Imports nothing of EasyR1.
"""

from __future__ import annotations

import re
from pathlib import Path

from gmpo_vl.config import Config


def shards(folder: Path) -> list[tuple[int, int]]:
    """(world size, rank) of every file of weights in an `actor` folder, in order."""
    names = [
        re.fullmatch(r"model_world_size_(\d+)_rank_(\d+)\.pt", path.name) for path in folder.glob("*.pt")
    ]
    return sorted((int(name[1]), int(name[2])) for name in names if name)


def check_whole(actor: Path, ranks: int) -> None:
    """Raise OSError where not every rank's weights arrived in a checkpoint's `actor` folder."""
    found = shards(actor)
    if len(found) != ranks:
        raise OSError(
            f"{len(found)} of {ranks} ranks' weights arrived in {actor}: on several nodes "
            "trainer.save_checkpoint_path must be on a file system that all of them share"
        )


def check_checkpoint(folder: Path, config: Config) -> None:
    """Can this run go on from there? Asked before Ray and any model is started. Raises ValueError with the way out."""
    found = shards(folder / "actor")
    if not found:
        raise ValueError(f"{folder} is no checkpoint of engine easyr1 (no actor/model_world_size_*.pt in it)")
    saved_on = {world for world, _ in found}
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    if saved_on != {ranks} or len(found) != ranks:
        raise ValueError(
            f"{folder} was saved by {max(saved_on)} GPUs ({len(found)} shards), this run has {ranks} (trainer.nnodes x "
            f"trainer.n_gpus_per_node): EasyR1's shards load on the same number only. To go on with other GPUs: gmpo-vl "
            f"export {folder} FOLDER, then another experiment_name with worker.actor.model.model_path=FOLDER (the "
            "optimizer starts afresh)"
        )
