"""AdamW is the fused one on a GPU, and either goes on from what the other saved."""

import copy

import pytest
import torch

from gmpo_vl.config import OptimConfig
from gmpo_vl.engines.local.checkpoint import load_optimizer, save_optimizer
from gmpo_vl.engines.policy import build_optimizer


class OnGpu(torch.nn.Parameter):
    """Says that it lies on a GPU. torch's fused AdamW runs on a CPU, too."""

    is_cuda = True


def model_on(gpu: bool, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    kind = OnGpu if gpu else torch.nn.Parameter
    model = torch.nn.Module()
    for name, value in weights.items():
        model.register_parameter(name, kind(value.clone()))
    return model


def take_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize(("first", "then"), [(True, False), (False, True), (True, True), (False, False)])
def test_each_goes_on_from_the_others_state(first, then, tmp_path):
    config = OptimConfig(lr=0.1, weight_decay=0.01)
    weights = {"a": torch.randn(5, 3), "b": torch.randn(4)}
    model = model_on(first, weights)
    optimizer = build_optimizer(model.parameters(), config)
    assert optimizer.defaults["fused"] is (True if first else None)
    for seed in (0, 1):
        take_step(model, optimizer, seed)
    save_optimizer(model, optimizer, tmp_path / "trainer" / "optimizer.pt")

    resumed = model_on(then, copy.deepcopy(dict(model.named_parameters())))
    going_on = build_optimizer(resumed.parameters(), config)
    load_optimizer(tmp_path / "trainer" / "optimizer.pt", resumed, going_on)
    assert going_on.param_groups[0]["fused"] is (True if then else None), "how it computes is not the file's"
    for seed in (2, 3):
        take_step(model, optimizer, seed)
        take_step(resumed, going_on, seed)
    for name, p in model.named_parameters():
        torch.testing.assert_close(dict(resumed.named_parameters())[name].data, p.data, rtol=1e-6, atol=1e-7)
    for p in resumed.parameters():
        assert float(going_on.state[p]["step"]) == 4.0


def test_a_model_partly_elsewhere_is_not_fused():
    parts = [OnGpu(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))]
    assert build_optimizer(parts, OptimConfig()).defaults["fused"] is None


def test_the_fused_step_holds_no_copy_of_the_parameters():
    """What the memory estimate rests on: the peak of a step is what is held already."""
    from torch.profiler import ProfilerActivity, profile

    model = model_on(True, {str(k): torch.randn(1000, 100) for k in range(4)})
    optimizer = build_optimizer(model.parameters(), OptimConfig())
    take_step(model, optimizer, 0)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        optimizer.step()
    allocated = [e.nbytes() for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    assert max(allocated, default=0) < 1000 * 100 * 4
