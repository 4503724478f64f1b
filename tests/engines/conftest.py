"""A configuration of engine local that trains in seconds."""

from pathlib import Path

import pytest
from tiny_runs import BASE

from gmpo_vl.config import Config, load_config


@pytest.fixture
def config_file(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(BASE)
    return path


@pytest.fixture
def make_config(config_file, overrides):
    def make(*more: str) -> Config:
        return load_config(config_file, [*overrides, *more])

    return make
