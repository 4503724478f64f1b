"""One thread (timings and the last digits stay the same on a loaded machine), and where the real data lies."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data sets, if present: DATA_DIR, by default ../shared/data beside the checkout."""
    path = Path(os.environ.get("DATA_DIR", Path(__file__).parents[1].parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set DATA_DIR)")
    return path
