"""Tiny models and prompts for the tests of this room."""

import pytest
import torch
from tiny_families import save_tiny_text


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory):
    return save_tiny_text(tmp_path_factory.mktemp("tiny_text"))


@pytest.fixture
def all_float64(monkeypatch):
    """`lift_to_float64` for a test."""
    lift_to_float64(monkeypatch)


def lift_to_float64(monkeypatch):
    """transformers computes norms, the ViT's rotation and routers in float32 whatever the model's dtype:
    lifted."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self.double())
    original = torch.Tensor.to

    def to(self, *args, **kwargs):
        args = tuple(torch.float64 if a is torch.float32 and self.is_floating_point() else a for a in args)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)

    softmax = torch.nn.functional.softmax

    def softmax_float64(input, dim=None, dtype=None, **kwargs):
        return softmax(input, dim=dim, dtype=torch.float64 if dtype is torch.float32 else dtype)

    monkeypatch.setattr(torch.nn.functional, "softmax", softmax_float64)
