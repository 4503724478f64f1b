"""The ViT's windows together give what transformers' ViT gives, window by window, in fewer calls."""

import copy

import pytest
import torch
from tiny_families import save_tiny_family

from gmpo_vl.models import compat, vision
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.tiny import save_tiny


def own_vision(model):
    """The same weights in transformers' own code."""
    own = copy.deepcopy(model)
    for module in own.model.visual.modules():
        module.__dict__.pop("forward", None)
    return own


# Patches in (time, height, width): whole windows (8 x 8 patches), edges of other lengths, several pictures.
GRIDS = [[[1, 16, 16]], [[1, 4, 22]], [[1, 18, 10], [1, 8, 8], [1, 2, 4]]]


def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k):
    """flash-attn's kernel with its defaults, window by window: nothing is hidden, scores are divided by
    sqrt(width)."""
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    lengths = cu_seqlens_q.diff().tolist()
    assert max(lengths) == max_seqlen_q == max_seqlen_k
    windows = zip(*(x.transpose(0, 1).split(lengths, dim=1) for x in (q, k, v)))
    attend = torch.nn.functional.scaled_dot_product_attention
    return torch.cat([attend(*window).transpose(0, 1) for window in windows])


@pytest.mark.parametrize("flash", [None, flash_attn_varlen_func])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen2_vl", "qwen3_vl"])
def test_features_and_gradients_are_transformers_own(family, grid, flash, tmp_path, all_float64, monkeypatch):
    monkeypatch.setattr(vision, "flash_for", lambda states, dtype: flash)
    folder = save_tiny(tmp_path) if family == "qwen2_5_vl" else save_tiny_family(tmp_path, family)
    model = load_model(folder, torch.float64)
    own = own_vision(model)
    grid_N3 = torch.tensor(grid)
    shape = model.config.vision_config
    width = 3 * shape.temporal_patch_size * shape.patch_size**2
    patches = torch.randn(int(grid_N3.prod(dim=1).sum()), width, dtype=torch.float64)
    outs = [compat.image_features(m, patches, grid_N3) for m in (model, own)]
    torch.testing.assert_close(*outs, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(outs[0])
    for out in outs:
        (out * weight).sum().backward()
    for (name, ours), theirs in zip(model.model.visual.named_parameters(), own.model.visual.parameters()):
        assert (ours.grad - theirs.grad).norm() <= 1e-10 * theirs.grad.norm() + 1e-13, name


def test_windows_are_asked_for_once_a_pass_and_not_once_a_layer(tiny_folder, monkeypatch):
    """A device is waited for when it is asked what it holds."""
    model = load_model(tiny_folder)
    asked = []
    tolist = torch.Tensor.tolist

    def counted(self):
        asked.append(self)
        return tolist(self)

    def times(blocks: int) -> int:
        model.model.visual.blocks.extend(copy.deepcopy(list(model.model.visual.blocks)[:blocks]))
        asked.clear()
        with monkeypatch.context() as patched:
            patched.setattr(torch.Tensor, "tolist", counted)
            out = compat.image_features(model, torch.randn(320, 1176), torch.tensor([[1, 16, 20]]))
        out.sum().backward()
        return len(asked)

    assert times(0) == times(2) == times(4)
    model = own_vision(model)
    assert times(0) < times(2), "transformers' own, which the test must see"


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
    # The first layer attends within 2 x 3 windows: four whole ones, two narrower at the edge. The last within
    # the picture.
    assert [(shape[0], shape[2]) for shape in calls] == [(2, 32), (4, 64), (1, 320)]
