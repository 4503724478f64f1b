"""gmpo_vl: vision-language RL with Geometric-Mean Policy Optimization (GMPO, arXiv 2507.20673).

API lists the names that other programs may rely on, with the module each lives in: `gmpo_vl.load_config` is
`gmpo_vl.config.load_config`. They are imported when they are used, so importing this loads no torch. None is
called as a room is: `gmpo_vl.verify` is always the module.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

API = {
    "Config": "gmpo_vl.config",
    "ConfigError": "gmpo_vl.config",
    "load_config": "gmpo_vl.config",
    "save_config": "gmpo_vl.config",
    "Example": "gmpo_vl.types",
    "Prompt": "gmpo_vl.types",
    "Sampling": "gmpo_vl.types",
    "Response": "gmpo_vl.types",
    "Group": "gmpo_vl.types",
    "Verdict": "gmpo_vl.types",
    "encode_answer": "gmpo_vl.data.answers",
    "parse_gold": "gmpo_vl.verify",
    "verify_batch": "gmpo_vl.verify",
    "load_reward": "gmpo_vl.rewards.loading",
    "group_advantages": "gmpo_vl.policy",
    "PolicyLoss": "gmpo_vl.policy",
    "per_sequence_loss": "gmpo_vl.policy",
    "train": "gmpo_vl.engines",
    "load_model": "gmpo_vl.models.loading",
    "load_processor": "gmpo_vl.models.processing",
    "write_report": "gmpo_vl.report",
}

__all__ = ["__version__", *API]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(API[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *API])
