"""Tiny models and prompts for the tests of this room."""

import pytest

from gmpo_vl.models.tiny import save_tiny, save_tiny_text


@pytest.fixture(scope="session")
def vl_folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny_vl"))


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory):
    return save_tiny_text(tmp_path_factory.mktemp("tiny_text"))
