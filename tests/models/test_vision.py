"""The ViT's windows together give what transformers' ViT gives, window by window, in fewer calls."""

import copy

import pytest
import torch

from gmpo_vl.models import compat
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.models.tiny_families import save_tiny_family


def own_vision(model):
    """The same weights in transformers' own code."""
    own = copy.deepcopy(model)
    for module in own.model.visual.modules():
        module.__dict__.pop("forward", None)
    return own


# Patches in (time, height, width): whole windows (8 x 8 patches), edges of other lengths, several pictures.
GRIDS = [[[1, 16, 16]], [[1, 4, 22]], [[1, 18, 10], [1, 8, 8], [1, 2, 4]]]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen2_vl", "qwen3_vl"])
def test_features_and_gradients_are_transformers_own(family, grid, tmp_path, all_float64):
    folder = save_tiny(tmp_path) if family == "qwen2_5_vl" else save_tiny_family(tmp_path, family)
    model = load_model(folder, torch.float64)
    own = own_vision(model)
    grid_N3 = torch.tensor(grid)
    vision = model.config.vision_config
    width = 3 * vision.temporal_patch_size * vision.patch_size**2
    patches = torch.randn(int(grid_N3.prod(dim=1).sum()), width, dtype=torch.float64)
    outs = [compat.image_features(m, patches, grid_N3) for m in (model, own)]
    torch.testing.assert_close(*outs, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(outs[0])
    for out in outs:
        (out * weight).sum().backward()
    for (name, ours), theirs in zip(model.model.visual.named_parameters(), own.model.visual.parameters()):
        assert (ours.grad - theirs.grad).norm() <= 1e-10 * theirs.grad.norm() + 1e-13, name


def test_windows_of_a_length_share_a_call(tiny_folder, monkeypatch):
    model = load_model(tiny_folder)
    calls = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def counted(*args, **kwargs):
        calls.append(args[0].shape)
        return attend(*args, **kwargs)

    monkeypatch.setattr("gmpo_vl.models.vision.scaled_dot_product_attention", counted)
    patches, grid_N3 = torch.randn(320, 1176), torch.tensor([[1, 16, 20]])
    compat.image_features(model, patches, grid_N3)
    # The first layer attends within 2 x 3 windows: four whole ones, two narrower at the edge. The last within the picture.
    assert [(shape[0], shape[2]) for shape in calls] == [(2, 32), (4, 64), (1, 320)]
