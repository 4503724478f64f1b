"""Does what is trained reach the sampler? LoRA's tensors by name, whole; and the mismatch that an update
measures.
"""

import peft
import pytest
import torch
from packaging.version import Version

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

from ranks import make_groups, run_ranks, start_worker
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.tensor import DTensor

from gmpo_vl.engines.easyr1 import sync
from gmpo_vl.engines.easyr1.serialisation import groups_to_proto, taken_apart

LORA = [
    "worker.actor.model.lora.rank=4",
    "worker.actor.model.lora.exclude_modules=.*visual.*",
    "worker.actor.fsdp.use_orig_params=false",
]


def collected(worker):
    """What EasyR1's sync would hand to vLLM."""
    sync.use_checked_sync()
    manager = sync.CheckedSync.__new__(sync.CheckedSync)  # without vLLM's engine
    manager.module, manager.use_param_offload = worker.fsdp_module, False
    return manager._collect_lora_weights()


def adapter_and_state(rank, world, config, find=None):
    """The adapter as it is handed over, and as it stands in the model; or what was said instead."""
    if find is not None:
        sync.adapter_tensors = find
    worker = start_worker(config, double=False)
    with torch.no_grad():
        for parameter in worker.fsdp_module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(rank)))
    state = get_model_state_dict(worker.fsdp_module)
    held = {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).clone()
        for name, value in state.items()
        if "lora_" in name
    }
    try:
        return collected(worker), held
    except ValueError as error:
        return str(error), held


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("originals", ["false", "true"])
def test_the_whole_adapter_is_handed_over_under_every_peft(make_config, ranks, originals):
    ways = [f"trainer.n_gpus_per_node={ranks}", f"worker.actor.fsdp.use_orig_params={originals}"]
    config = make_config(*LORA, *ways)
    for found, held in run_ranks(ranks, adapter_and_state, config):
        assert len(found) == len(held) > 0
        for name, value in held.items():
            assert torch.equal(found[name.replace(".default.", ".")], value), name


def nothing(_model, state_dict):
    return {}


def one_factor(_model, state_dict):
    return {name: value for name, value in by_name(None, state_dict).items() if "lora_A" in name}


by_name = sync.adapter_tensors


@pytest.mark.parametrize(("find", "share"), [(nothing, 0.0), (one_factor, 0.5)])
def test_an_adapter_that_is_not_whole_is_refused(make_config, find, share):
    [(said, held)] = run_ranks(1, adapter_and_state, make_config(*LORA), find)
    assert f"LoRA: {int(share * len(held))} of the adapter's {len(held)} tensors were found" in said


@pytest.mark.skipif(Version(peft.__version__) < Version("0.21"), reason="peft < 0.21 finds them")
def test_what_peft_finds_layer_by_layer_is_no_adapter_any_more(make_config):
    """Why it is not asked. Where this fails, peft answers again as EasyR1 expects."""
    [(said, held)] = run_ranks(1, adapter_and_state, make_config(*LORA), peft.get_peft_model_state_dict)
    assert f"0 of the adapter's {len(held)} tensors" in said


def test_a_module_without_a_place_and_an_empty_adapter_are_refused():
    sync.check_placed({"layers.0.q_proj", "layers.1.q_proj"}, {"layers.0.q_proj": 1, "layers.1.q_proj": 2})
    with pytest.raises(ValueError, match=r"no place for 1 of the adapter's modules \(layers.0.mlp.gate\)"):
        sync.check_placed(["layers.0.q_proj", "layers.0.mlp.gate"], ["layers.0.q_proj"])
    with pytest.raises(ValueError, match="an empty adapter"):
        sync.check_placed({}, {"layers.0.q_proj": 1})


def update_of_trusted(rank, world, config, groups):
    """The update's figures, and before it |trainer - sampler| of every token of the first mini-batch on all
    ranks.
    """
    worker = start_worker(config, double=False)

    def mine():
        tokens = [1 for group in groups for _ in group.responses]
        data = groups_to_proto(groups, lr=0.05, way="plain", global_token_num=tokens)
        return data.chunk(world)[rank]

    log_probs = worker.compute_log_probs(mine()).batch["old_log_probs"]
    size = len(groups) // world
    first = config.worker.actor.global_batch_size // world
    of_rank = groups[rank * size :][:first]
    gaps = [
        log_probs_T - response.rollout_log_probs_T
        for of_group, group in zip(taken_apart(of_rank, log_probs), of_rank)
        for log_probs_T, response in zip(of_group, group.responses)
    ]
    figures = worker.update_actor(mine()).non_tensor_batch
    return torch.cat(gaps).abs(), {k: float(v[0]) for k, v in figures.items() if "mismatch" in k}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("loss", ["gmpo", "easyr1/default"])
def test_an_update_compares_its_first_mini_batch_with_the_sampler(make_config, ranks, loss):
    config = make_config(
        "worker.actor.old_log_probs=rollout",
        f"worker.actor.loss_type={loss}",
        "worker.actor.global_batch_size=4",
        "worker.rollout.temperature=1.0",
        "data.rollout_batch_size=8",
        f"trainer.n_gpus_per_node={ranks}",
        *(["worker.actor.fsdp.torch_dtype=fp32"] if loss == "gmpo" else []),
    )
    groups = make_groups(config)
    for group in groups:
        group.old_log_probs = [response.rollout_log_probs_T for response in group.responses]
        group.advantages_G = group.advantages_G.float()
    found = run_ranks(ranks, update_of_trusted, config, groups)
    gaps = torch.cat([of_rank[0] for of_rank in found])
    for _, figures in found:
        assert figures["rollout/mismatch_max"] == pytest.approx(float(gaps.max()), abs=1e-4)
        assert figures["rollout/mismatch_p50"] == pytest.approx(float(gaps.quantile(0.5)), abs=1e-4)
    for group in groups:
        group.fresh = False
    assert all(figures == {} for _, figures in run_ranks(ranks, update_of_trusted, config, groups))
