"""Is the EasyR1 that is installed the one that this engine was tested with? By a fingerprint of its files.

EasyR1 is read, not imported: its modules want vllm and a GPU.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

COMMIT = "b44b311"
# Set to anything: go on with an EasyR1 whose files differ.
UNTESTED = "GMPO_VL_UNTESTED_EASYR1"

# Every file that we call, subclass, fill in or stand in for: the start of its SHA-256 at that commit.
TESTED_FILES = {
    "verl/protocol.py": "a634340a086a986c",
    "verl/single_controller/base/decorator.py": "2fe8e039eade8d92",
    "verl/single_controller/base/worker.py": "ecbbe21a48dd6133",
    "verl/single_controller/ray/base.py": "039982ab0d10549d",
    "verl/trainer/config.py": "8ecc0fed69805993",
    "verl/trainer/core_algos.py": "871cadc71a8b0429",
    "verl/trainer/ray_trainer.py": "54b9cb7fccc78513",
    "verl/utils/checkpoint/checkpoint_manager.py": "af20ef83b0289591",
    "verl/utils/checkpoint/fsdp_checkpoint_manager.py": "525fdef04dcc8aba",
    "verl/utils/flops_counter.py": "0b0121aeacd46cc2",
    "verl/utils/fsdp_utils.py": "e3bb42cb978b313d",
    "verl/utils/model_utils.py": "fb83e18b441b1de3",
    "verl/utils/seqlen_balancing.py": "f1319a58338d64cb",
    "verl/workers/actor/config.py": "f95864cb05d32192",
    "verl/workers/actor/dp_actor.py": "2e7ba59831f4a8c0",
    "verl/workers/config.py": "00475242e75ea83b",
    "verl/workers/fsdp_workers.py": "4ce08f3214b9eeaf",
    "verl/workers/rollout/config.py": "2d76cf77f02024f3",
    "verl/workers/rollout/vllm_rollout_spmd.py": "9ab0c46f239091f8",
    "verl/workers/sharding_manager/fsdp_vllm.py": "074a2db96fd351dc",
}


class EasyR1Error(ValueError):
    """EasyR1 is missing, or is not the one this engine knows. The message says what to do."""


def find_easyr1() -> Path | None:
    """The folder that holds EasyR1's package `verl`; None where there is none."""
    spec = importlib.util.find_spec("verl")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent.parent


def require_easyr1() -> Path:
    """EasyR1's folder, every tested file as it was. Raises EasyR1Error with what to install or differs."""
    home = find_easyr1()
    if home is None:
        raise EasyR1Error(
            "engine: easyr1 needs EasyR1, which is not installed here: pip install 'gmpo-vl[easyr1]', then "
            f"EasyR1 itself from its repository (hiyouga/EasyR1) at commit {COMMIT} with pip install "
            "--no-deps (recipes/README.md: install). Or train on this machine with engine=local"
        )
    differing = differing_files(home)
    if differing and UNTESTED not in os.environ:
        raise EasyR1Error(
            f"the `verl` in {home} is not EasyR1 at commit {COMMIT}: {len(differing)} of {len(TESTED_FILES)} "
            "files that this engine builds on differ "
            f"({', '.join(differing[:3])}{', ...' if len(differing) > 3 else ''}). Install that commit, or "
            f"set {UNTESTED}=1 to go on at your own risk"
        )
    return home


def differing_files(home: Path) -> list[str]:
    """The tested files that are missing or whose text is another than at COMMIT. Line ends do not count."""

    def differs(path: Path, digest: str) -> bool:
        text = path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else b""
        return hashlib.sha256(text).hexdigest()[:16] != digest

    return [name for name, digest in TESTED_FILES.items() if differs(home / name, digest)]
