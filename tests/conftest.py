"""One thread (timings and the last digits stay the same on a loaded machine), where the real data lies, a picture."""

import io
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data sets, if present: DATA_DIR, by default ../shared/data beside the checkout."""
    path = Path(os.environ.get("DATA_DIR", Path(__file__).parents[1].parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set DATA_DIR)")
    return path


@pytest.fixture(autouse=True, scope="session")
def _own_datasets_cache(tmp_path_factory):
    """`datasets` copies parquet into its cache: into a throw-away one here."""
    import datasets.config

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets_cache")
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small valid picture."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
