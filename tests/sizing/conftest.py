"""A configuration to size, as the engines' tests have it."""

from pathlib import Path

import pytest
from families.conftest import folder_of  # noqa: F401
from tiny_runs import BASE

from gmpo_vl.config import load_config


@pytest.fixture
def config_file(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(BASE)
    return path


@pytest.fixture
def unsaid(config_file, overrides):
    """A function that makes the configuration, without a key for what a forward may hold."""
    lines = [line for line in config_file.read_text().splitlines() if "micro_batch_size" not in line]
    config_file.write_text("\n".join(lines))

    def make(*more):
        return load_config(config_file, [*overrides, *more])

    return make
