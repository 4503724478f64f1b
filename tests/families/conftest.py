"""Each family's folder, processor and model, made once."""

from functools import cache
from pathlib import Path

import pytest
from families.tiny import save_family

from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import load_processor


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    return cache(lambda name: save_family(tmp_path_factory.mktemp(name), name))


@pytest.fixture(scope="session")
def processor_of(folder_of):
    return cache(lambda name: load_processor(folder_of(name)))


@pytest.fixture(scope="session")
def model_of(folder_of):
    """Nobody changes its weights."""
    return cache(lambda name: load_model(folder_of(name)).eval())


@pytest.fixture
def folder(name, folder_of) -> Path:
    return folder_of(name)


@pytest.fixture
def processor(name, processor_of):
    return processor_of(name)


@pytest.fixture
def model(name, model_of):
    model = model_of(name)
    model.zero_grad()
    return model
