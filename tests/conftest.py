"""One thread (timings and the last digits stay the same on a loaded machine, and workers beside this one have
the other cores), where the real data lies, a picture, and what tiny_runs.py trains: diagrams and a model."""

import io
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image
from tiny_runs import settings_of_run

import gmpo_vl.verify

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes that tests start
# No test depends on how fast the machine is: an example may take as long as it takes, and so may math-verify.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
gmpo_vl.verify.DEADLINE = 3600.0


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU, and torch sees none")


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


@pytest.fixture(autouse=True, scope="session")
def _nobody_waits_for_the_disk():
    """A run waits 50 times for the disk to have what it wrote, which only a machine that goes down can tell.
    Processes that tests start wait."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small valid picture."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def diagrams(tmp_path_factory) -> Path:
    """A folder with train, validation and test."""
    from gmpo_vl.tasks.diagrams.data import export

    folder = tmp_path_factory.mktemp("diagrams")
    export(folder, {"train": 24, "validation": 6, "test": 8})
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A tiny Qwen2.5-VL with random weights."""
    from gmpo_vl.models.tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def overrides(tmp_path, diagrams, tiny_folder) -> list[str]:
    return settings_of_run(tmp_path, diagrams, tiny_folder)


@pytest.fixture
def make_config(config_file, overrides):
    """A run's configuration, from the engine's own `config_file` with a.b=c after it."""
    from gmpo_vl.config import Config, load_config

    def make(*more: str) -> Config:
        return load_config(config_file, [*overrides, *more])

    return make
