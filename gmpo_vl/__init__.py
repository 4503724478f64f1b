"""gmpo_vl: vision-language RL with Geometric-Mean Policy Optimization (GMPO, arXiv 2507.20673).

The public API; each name is imported when it is first asked for:

    load_config(path, overrides)       a run's configuration; train(config) runs it
    load_reward(spec)                  a reward by its name, or as `file.py:function`
    verify_batch(golds, responses)     a Verdict for every response
    per_sequence_loss, group_advantages    the objectives (the paper's Eq. 5 is `gmpo`) and the advantages of a group
    write_report(run_folder)           a run as one page
    Example, Prompt, Response, Group, Sampling, Verdict    the nouns, on one page in gmpo_vl/types.py
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "gmpo_vl.types": ("Example", "Prompt", "Response", "Group", "Sampling", "Verdict"),
    "gmpo_vl.config": ("load_config",),
    "gmpo_vl.engines": ("train",),
    "gmpo_vl.rewards.loading": ("load_reward",),
    "gmpo_vl.verify": ("verify_batch",),
    "gmpo_vl.policy.objectives": ("per_sequence_loss",),
    "gmpo_vl.policy.advantages": ("group_advantages",),
    "gmpo_vl.report": ("write_report",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
