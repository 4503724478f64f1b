"""A whole step of engine local, backward included, on the simulated device: what it gives, where it mixes,
how often it waits.
"""

import os

import fake_flash
import pytest
import torch
from device_steps import Step, take_step
from simulated import SIMULATES, apart, simulated_device, synchronisations
from tiny_families import save_tiny_family

from gmpo_vl.config import Config, load_config
from gmpo_vl.engines.parity import gaps_between
from gmpo_vl.models import shared

pytestmark = pytest.mark.skipif(not SIMULATES, reason="needs torch 2.10 and fork")

SETTINGS = [
    "data.rollout_batch_size=3",
    "worker.actor.global_batch_size=3",
    "worker.rollout.n=3",
    "worker.actor.max_tokens_per_micro_batch=60",
    "worker.actor.model.enable_gradient_checkpointing=true",
]
FROZEN = [
    "worker.actor.model.freeze_vision_tower=true",
    "algorithm.disable_kl=false",
    "algorithm.use_kl_loss=true",
]
LORA = ["worker.actor.model.lora.rank=4"]
AUTOCAST = ["worker.actor.fsdp.mp_param_dtype=bf16"]
IN_BF16 = [*AUTOCAST, "worker.actor.fsdp.torch_dtype=bf16"]


def settings_of(model, *more: str) -> Config:
    path = f"worker.actor.model.model_path={model}"
    return load_config("configs/geometry3k_tiny_cpu.yaml", [path, *SETTINGS, *more])


def all_log_probs(step: Step) -> torch.Tensor:
    return torch.cat([x for group in step.groups for x in group.old_log_probs])


def assert_same(here: Step, on_cpu: Step, tolerance: float) -> None:
    torch.testing.assert_close(all_log_probs(here), all_log_probs(on_cpu), rtol=0, atol=tolerance)
    assert here.parity.holds
    for name in ("actor/entropy", "actor/pg_loss", "actor/grad_norm", "actor/grpo_weight_distance"):
        assert here.metrics[name] == pytest.approx(on_cpu.metrics[name], rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize("settings", [[], FROZEN, LORA], ids=["ViT trained", "ViT frozen, KL", "LoRA"])
@apart
def test_a_step_on_the_device_is_the_cpus(settings, tiny_folder):
    config = settings_of(tiny_folder, *settings)
    here, on_cpu = take_step(config, on_a_device=True), take_step(config, on_a_device=False)
    for group, same in zip(here.groups, on_cpu.groups, strict=True):
        for response, other in zip(group.responses, same.responses, strict=True):
            assert torch.equal(response.ids_T, other.ids_T)
    assert_same(here, on_cpu, 1e-4)
    assert here.too_many_waits() == []
    assert set(here.waits) >= {"generate", "parity", "log_probs", "update"}


@pytest.mark.parametrize(
    ("settings", "flash"),
    [(AUTOCAST, False), (AUTOCAST, True), (IN_BF16, True)],
    ids=["autocast, SDPA", "autocast, flash", "bf16 weights, flash"],
)
@apart
def test_half_precision_on_the_device_is_near_the_cpus_fp32(settings, flash, tiny_folder, monkeypatch):
    calls = []

    def counted(*args, **kwargs):
        calls.append(args[0].dtype)
        return fake_flash.flash_attn_varlen_func(*args, **kwargs)

    monkeypatch.setattr(shared, "flash_varlen", lambda: counted if flash else None)
    on_cpu = take_step(settings_of(tiny_folder), on_a_device=False)
    here = take_step(settings_of(tiny_folder, *settings), True, given=on_cpu.groups)
    assert here.parity.holds
    assert gaps_between(all_log_probs(here), all_log_probs(on_cpu)).rms < 0.02
    assert here.metrics["actor/grad_norm"] == pytest.approx(on_cpu.metrics["actor/grad_norm"], rel=0.05)
    assert here.too_many_waits() == []
    assert set(calls) == ({torch.bfloat16} if flash else set())


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_moe"])
@apart
def test_other_families_on_the_device(family, tmp_path):
    """DeepStack; experts. Their waits have no budget."""
    config = settings_of(save_tiny_family(tmp_path / "model", family))
    assert_same(take_step(config, on_a_device=True), take_step(config, on_a_device=False), 1e-4)


@apart
def test_what_waits_on_cuda_is_counted_and_what_does_not_is_not():
    with simulated_device() as device:
        x, places = torch.arange(6.0, device=device), torch.tensor([1, 2], device=device)
        waiting = {
            "item": lambda: x[0].item(),
            "a branch": lambda: bool(x.any()),
            "to the CPU": lambda: x.cpu(),
            "to the device": lambda: torch.ones(2).to(device),
            "made from a list": lambda: torch.tensor([1, 2], device=device),
            "a list as index": lambda: x[[1, 2]],
            "an index of the CPU": lambda: x[torch.tensor([1, 2])],
            "a mask as index": lambda: x[x > 2],
            "a mask as index, assigned": lambda: x.index_put((x > 3,), torch.zeros(2, device=device)),
            "nonzero": lambda: x.nonzero(),
            "tolist": lambda: x.tolist(),
        }
        free = {
            "an index": lambda: x[places],
            "a number": lambda: x * 2 + torch.tensor(1.0),
            "a mask and one value": lambda: x.masked_fill(x > 2, 0.0),
            "made there": lambda: torch.zeros(3, device=device),
            "another dtype": lambda: x.double(),
        }
        for name, run in (waiting | free).items():
            with synchronisations() as found:
                run()
            assert bool(found.total()) == (name in waiting), (name, found)


@apart
def test_mixing_with_the_cpu_is_refused_as_cuda_refuses_it():
    with simulated_device() as device:
        x, places = torch.arange(6.0, device=device), torch.tensor([1, 2], device=device)
        for run in (
            lambda: x + torch.ones(6),
            lambda: torch.cat([x, torch.ones(1)]),
            lambda: torch.stack([x[0], torch.tensor(1.0)]),
            lambda: torch.arange(6.0)[places],
            lambda: x.gather(0, torch.tensor([1, 2])),
            lambda: x.index_put_((places,), torch.ones(2)),
            lambda: torch.nn.functional.embedding(torch.tensor([1]), x[:, None]),
            lambda: x.where(torch.ones(6, dtype=torch.bool), x),
        ):
            with pytest.raises(RuntimeError, match="sim:0 and cpu"):
                run()


@apart
def test_a_generator_of_the_cpu_and_a_copy_that_nobody_waits_for_are_refused():
    with simulated_device() as device:
        drawn = torch.Generator().manual_seed(0)
        with pytest.raises(RuntimeError, match="generator but found 'cpu'"):
            torch.rand(3, generator=drawn, device=device)
        with pytest.raises(RuntimeError, match="generator but found 'cpu'"):
            torch.multinomial(torch.ones(3, device=device), 1, generator=drawn)
        with pytest.raises(RuntimeError, match="before the device has written it"):
            torch.ones(3, device=device).to("cpu", non_blocking=True)
        assert torch.ones(3).to(device, non_blocking=True).sum().item() == 3


@apart
def test_autocast_casts_as_cudas():
    with simulated_device() as device, torch.autocast("sim", torch.bfloat16):
        x = torch.randn(4, 4, device=device)
        assert (x @ x).dtype == torch.nn.functional.linear(x, x).dtype == torch.bfloat16
        assert (x @ x).softmax(-1).dtype == torch.float32
        assert (x.double() @ x.double()).dtype == torch.float64


def test_a_test_apart_fails_as_any_other():
    with pytest.raises(ZeroDivisionError):
        apart(lambda: 1 / 0)()
    with pytest.raises(RuntimeError, match="ended with 3"):
        apart(lambda: os._exit(3))()
