"""A configuration to size, as the engines' tests have it."""

from pathlib import Path

import pytest
from families.conftest import folder_of  # noqa: F401
from tiny_runs import BASE


@pytest.fixture
def config_file(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(BASE)
    return path
