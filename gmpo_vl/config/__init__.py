"""A run's settings: EasyR1's schema with our keys, read from YAML and `a.b=c` overrides (imports no torch).

    config = load_config("configs/demo.yaml", ["worker.rollout.n=8"])

`schema` says what there is, `load` reads and writes, `checks` says what a run refuses and why.
"""

from gmpo_vl.config.load import load_config, save_config
from gmpo_vl.config.schema import (
    ActorConfig,
    AlgorithmConfig,
    Config,
    ConfigError,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RewardConfig,
    RolloutConfig,
    TrainerConfig,
    WorkerConfig,
)
from gmpo_vl.config.support import doubts, notices

__all__ = [
    "ActorConfig",
    "AlgorithmConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "ModelConfig",
    "OptimConfig",
    "RewardConfig",
    "RolloutConfig",
    "TrainerConfig",
    "WorkerConfig",
    "doubts",
    "load_config",
    "notices",
    "save_config",
]
