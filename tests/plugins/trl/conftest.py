"""These tests run where TRL is installed: `make test-trl`. Elsewhere they are not collected."""

from importlib.metadata import PackageNotFoundError, version

import pytest
from tiny_families import save_tiny_text

try:
    version("trl")
except PackageNotFoundError:
    collect_ignore_glob = ["*.py"]


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory):
    """A text-only Qwen2 of 0.2 M parameters."""
    return save_tiny_text(tmp_path_factory.mktemp("tiny_text"))
