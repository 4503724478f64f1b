"""A model sharded over two ranks gives the log-probs and gradients of the whole one."""

import functools
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from plain_forward import CPU, prompts_of, rows_with
from tiny_families import save_tiny_family

from gmpo_vl.models import features, forward, head
from gmpo_vl.models.compat import enable_gradient_checkpointing
from gmpo_vl.models.forward import ForwardOptions, answer_packed, response_log_probs
from gmpo_vl.models.geometry import language_model
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import load_processor
from gmpo_vl.tasks.diagrams.data import make_examples


def micro_batches(folder):
    """Rank 0 has pictures, rank 1 has none."""
    processor = load_processor(folder)
    pictures = rows_with(prompts_of("images", processor, make_examples("train", 2, seed=0)), [[7, 1], [3]])
    text = rows_with(prompts_of("text", processor, []), [[4, 2, 6], [1]])
    return [pack(rows, processor.family, CPU) for rows in (pictures, text)]


def whole_weights(sharded, FSDP):
    with FSDP.summon_full_params(sharded):
        return {
            n.replace("_fsdp_wrapped_module.", ""): p.detach().clone() for n, p in sharded.named_parameters()
        }


def sharded_rank(rank, folder, store, out, kind):
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp import MixedPrecision, ShardingStrategy
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = load_model(folder, torch.float64).train()
    if kind == "frozen tower":
        model.model.visual.requires_grad_(False)
    if "checkpointed" in kind:
        enable_gradient_checkpointing(model)
        head.HEAD_CHUNK = 3  # the head, too, runs again in the backward
    layers = {type(language_model(model).layers[0]), type(model.model.visual.blocks[0])}
    answer_packed(model)
    sharded = FSDP(
        model,
        auto_wrap_policy=functools.partial(transformer_auto_wrap_policy, transformer_layer_cls=layers),
        sharding_strategy=ShardingStrategy.FULL_SHARD,
        device_id=CPU,
        use_orig_params=True,
        mixed_precision=MixedPrecision(param_dtype=torch.float64, cast_forward_inputs=True),  # as EasyR1
    )
    layouts = []
    build = forward.build_layout
    forward.build_layout = lambda *of: layouts.append(build(*of)) or layouts[-1]  # in this process
    packed = micro_batches(folder)[rank]
    kept = features.frozen_features(sharded, packed.family.image)
    if kept is not None:
        kept.learn(packed.prompts, on_all_ranks=lambda _: 2)  # as if one of the ranks had more
        packed = replace(packed, features=kept.of(packed.prompts, CPU))
    visit = packed.family.image if kept is None else None
    log_probs_BT, _ = sharded(packed, 0.7, (3, 4), options=ForwardOptions(visit=visit))
    assert [layout.heard for layout in layouts] == [True], "FSDP hands each layer a copy of its own"
    before = whole_weights(sharded, FSDP)
    log_probs_BT.sum().backward()
    torch.optim.SGD([p for p in sharded.parameters() if p.requires_grad], lr=1.0).step()
    after = whole_weights(sharded, FSDP)
    gradients = {name: before[name] - after[name] for name in before}
    torch.save((log_probs_BT.detach(), gradients), f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch without gloo")
@pytest.mark.parametrize(
    "kind", ["whole", "checkpointed, head in chunks", "frozen tower", "recurrent states, checkpointed"]
)
def test_two_sharded_ranks_equal_one_whole_model(kind, tiny_folder, tmp_path):
    if kind.startswith("recurrent states"):
        tiny_folder = save_tiny_family(tmp_path / "model", "qwen3_5")
    # Forked: everything is imported already.
    mp.start_processes(
        sharded_rank,
        args=(tiny_folder, tmp_path / "store", tmp_path, kind),
        nprocs=2,
        start_method="fork",
    )
    model = load_model(tiny_folder, torch.float64)
    if kind == "frozen tower":
        model.model.visual.requires_grad_(False)
    for rank, packed in enumerate(micro_batches(tiny_folder)):
        whole_BT, _ = response_log_probs(model, packed, 0.7, (3, 4))
        whole_BT.sum().backward()
        sharded_BT, gradients = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(sharded_BT, whole_BT.detach(), rtol=0, atol=1e-12)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert not gradients[name].any(), name
            continue
        assert parameter.grad is not None
        gap = (2 * gradients[name] - parameter.grad).norm()  # FSDP averages over ranks
        assert gap <= 1e-10 * parameter.grad.norm() + 1e-12, name


def test_every_other_call_is_the_models_own(text_folder):
    model = load_model(text_folder)
    ids = torch.tensor([[1, 2, 3]])
    before = model(ids).logits
    answer_packed(model)
    assert torch.equal(model(ids).logits, before)
