"""The least that a run needs written down."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

MINIMAL = {
    "data": {"train_files": "rows.parquet"},
    "worker": {
        "actor": {"model": {"model_path": "model"}},
        "rollout": {"n": 8},
        "reward": {"reward_function": "geometry3k"},
    },
}


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes a config file from a dict, on top of the minimal one that can run."""

    def write(name: str = "run.yaml", **sections) -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump({**MINIMAL, **sections}))
        return path

    return write
