import io

import pytest
from PIL import Image


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
