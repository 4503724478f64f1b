"""PAPO in an update: its gradient is that of its equation through both branches, however the mini-batch is
cut and over however many ranks it lies; and a run with it goes on to the same last digit."""

import copy
import json
import multiprocessing
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from gmpo_vl.config import load_config
from gmpo_vl.engines.local.engine import build_policy, train
from gmpo_vl.engines.perception import masked_group, update_passes
from gmpo_vl.engines.policy import Policy
from gmpo_vl.engines.updates import accumulate_gradient, trained_rows, update_policy
from gmpo_vl.models.forward import answer_packed, response_log_probs
from gmpo_vl.models.loading import banned_ids, load_model
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.policy import StepDiagnostics, per_sequence_loss
from gmpo_vl.setup import load_configured_processor
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example, Group, Response

# transformers computes norms in float32 whatever the model's dtype; the models' tests lift that.
all_float64 = runpy.run_path(str(Path(__file__).parents[1] / "models" / "conftest.py"))["all_float64"]

GAMMA, ETA1, ETA2 = 0.5, 0.03, 0.05
PAPO = [
    f"algorithm.papo.kl_prcp_coef={GAMMA}",
    f"algorithm.papo.ori_entropy_loss_coef={ETA1}",
    f"algorithm.papo.aug_entropy_loss_coef={ETA2}",
    "algorithm.papo.patch_size=10",
]
FIRST_ALONE = ["algorithm.papo.kl_prcp_coef=0.5"]
WHOLE = ("data.rollout_batch_size=5", "worker.actor.global_batch_size=5")
CUTS = {
    "one": ("worker.actor.micro_batch_size_per_device_for_update=1", "worker.actor.dynamic_batching=false"),
    "tokens": ("worker.actor.max_tokens_per_micro_batch=150",),
    "alone": ("worker.actor.share_prefix=never",),
}


def groups_of(processor, first=0, count=5):
    """Groups of ragged responses, old log-probs near the model's. The second prompt has no picture, and
    neither has the fourth; the third and the fourth group have no variance."""
    draw = torch.Generator().manual_seed(0)
    groups = []
    for i, example in enumerate(make_examples("train", count, seed=0)):
        if i in (1, 3):
            example = Example(f"text-{i}", f"What is {i} + 2?", "3")
        prompt = encode_prompt(example, processor)
        ids = [torch.randint(20, 280, (1 + (3 * i + 2 * k) % 9,), generator=draw) for k in range(4)]
        advantages_G = torch.randn(4, generator=draw, dtype=torch.float64) * (i not in (2, 3))
        old = [torch.randn(len(x), generator=draw) * 0.1 - 5.8 for x in ids]
        responses = [Response(x, old_T, "", True, 0) for x, old_T in zip(ids, old)]
        groups.append(Group(f"{i}@{i}", prompt, responses, advantages_G=advantages_G, old_log_probs=old))
    return groups[first:]


def double_policy(config):
    policy = build_policy(config, load_configured_processor(config))
    policy.model.double()
    if config.worker.actor.share_prefix == "never":
        policy.way = "plain"
    return policy


def gradient_of(model):
    named = sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return torch.cat([p.grad.flatten() for _, p in named])


def gradient(config, groups=None):
    policy, figures = double_policy(config), StepDiagnostics()
    groups = groups_of(policy.processor) if groups is None else groups
    accumulate_gradient(policy, groups, config, figures)
    return gradient_of(policy.model), figures.result()


def relative(a, b):
    return float((a - b).norm() / b.norm())


def both_branches(policy, group, config):
    """(log-probs, entropies) of a group's responses, and after its masked pictures: lists of (T,)."""
    found = []
    for prompt in (group.prompt, masked_group(group, config).prompt):
        rows = [(prompt, response.ids_T) for response in group.responses]
        packed = pack(rows, policy.processor.family, policy.device)
        values = response_log_probs(policy.model, packed, 1.0, policy.banned_ids, with_entropy=True)
        found.append([[x[: len(r.ids_T)] for x, r in zip(of, group.responses)] for of in values])
    return found


def equation(policy, groups, config):
    """Its loss of the mini-batch, written out: a mean over responses, terms where there is a picture."""
    total, rows = torch.zeros((), dtype=torch.float64), 0
    for group in groups:
        (own, entropies), (masked, masked_entropies) = both_branches(policy, group, config)
        for k, old_T in enumerate(group.old_log_probs):
            mask, advantage = torch.ones(1, len(old_T)), group.advantages_G[k : k + 1]
            loss = per_sequence_loss("gmpo", own[k][None], old_T[None], mask, advantage).loss_B[0]
            if group.prompt.images:
                d_T = masked[k] - own[k]
                loss = loss - GAMMA * (d_T.exp() - d_T - 1).mean()
                loss = loss + ETA1 * entropies[k].mean() + ETA2 * masked_entropies[k].mean()
            total, rows = total + loss, rows + 1
    return total / rows


def test_the_gradient_is_that_of_the_equation_through_both_branches(make_config, all_float64):
    """By finite differences along random directions, and by autograd through one graph."""
    config = make_config(*PAPO)
    policy = double_policy(config)
    groups = groups_of(policy.processor)
    accumulate_gradient(policy, groups, config, StepDiagnostics())
    found_W = gradient_of(policy.model)
    parameters = [p for _, p in sorted(policy.model.named_parameters())]
    draw = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = [torch.randn(p.shape, generator=draw, dtype=torch.float64) for p in parameters]
        values = []
        for step in (1e-5, -2e-5):  # forward, then to the other side
            with torch.no_grad():
                for p, d in zip(parameters, direction):
                    p += step * d
                values.append(float(equation(policy, groups, config)))
        with torch.no_grad():
            for p, d in zip(parameters, direction):
                p += 1e-5 * d
        slope = float(found_W @ torch.cat([d.flatten() for d in direction]))
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-5)
    policy.model.zero_grad(set_to_none=True)
    equation(policy, groups, config).backward()
    assert relative(found_W, gradient_of(policy.model)) < 1e-10


def test_the_masked_branch_is_in_it_and_can_be_left_out(make_config, all_float64):
    whole_W, figures = gradient(make_config(*FIRST_ALONE))
    half_W, half_figures = gradient(make_config(*FIRST_ALONE, "algorithm.papo.masked_gradient=false"))
    assert half_figures == figures
    without_W, _ = gradient(make_config())
    assert relative(half_W, whole_W) > 0.01 < relative(without_W, half_W)
    config = make_config(*FIRST_ALONE)  # by hand: what the masked branch gives is a constant
    policy = double_policy(config)
    total = torch.zeros((), dtype=torch.float64)
    for group in (group for group in groups_of(policy.processor) if group.prompt.images):
        (own, _), (masked, _) = both_branches(policy, group, config)
        for own_T, masked_T in zip(own, masked):
            d_T = masked_T.detach() - own_T
            total = total - GAMMA * (d_T.exp() - d_T - 1).mean() / 20
    total.backward()
    assert relative(half_W - without_W, gradient_of(policy.model)) < 1e-10


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("loss_type", ["gmpo", "dapo"])
def test_micro_batches_their_order_and_sharing_change_nothing(make_config, cut, loss_type, all_float64):
    loss = [*PAPO, f"worker.actor.loss_type={loss_type}"]
    want_W, want = gradient(make_config(*loss))
    config = make_config(*loss, *cut)
    found_W, found = gradient(config, groups_of(load_configured_processor(config))[::-1])
    assert relative(found_W, want_W) < 1e-10
    assert {"actor/papo_kl", "actor/papo_entropy", "actor/papo_entropy_masked"} <= found.keys()
    for name in ("papo_kl", "papo_entropy", "papo_entropy_masked", "pg_loss"):
        assert found[f"actor/{name}"] == pytest.approx(want[f"actor/{name}"], rel=1e-10)


def test_only_rows_without_picture_and_advantage_are_left_out(make_config):
    config = make_config(*PAPO)
    groups = groups_of(load_configured_processor(config))
    assert [len(trained_rows(group, config)) for group in groups] == [4, 4, 4, 0, 4]
    assert [len(trained_rows(group, make_config())) for group in groups] == [4, 4, 0, 0, 4]
    rows = [trained_rows(group, config) for group in groups]
    assert [update_passes(of, config) for of in rows] == [2, 1, 2, 1, 2]
    without = make_config(*FIRST_ALONE, "algorithm.papo.masked_gradient=false")
    assert [update_passes(of, without) for of in rows[:2]] == [4 / 3, 1]


def test_text_alone_is_trained_as_without_it(make_config, all_float64):
    texts = [
        group for group in groups_of(load_configured_processor(make_config())) if not group.prompt.images
    ]
    (with_W, figures), (without_W, plain) = (
        gradient(make_config(*more), copy.deepcopy(texts)) for more in (PAPO, [])
    )
    assert torch.equal(with_W, without_W)
    assert figures == plain


def test_a_mask_that_hides_nothing_gives_exactly_nothing(make_config):
    """Both branches then run the same forward. (A configuration refuses this probability.)"""
    config = make_config(*FIRST_ALONE, "worker.actor.micro_batch_size_per_device_for_experience=8")
    config.algorithm.papo.black_prob = 0.0
    pictures = groups_of(load_configured_processor(config))[::4]  # with pictures and variance
    policy = build_policy(config, load_configured_processor(config))
    figures = StepDiagnostics()
    accumulate_gradient(policy, pictures, config, figures)
    assert figures.result()["actor/papo_kl"] == 0.0
    without = build_policy(config, load_configured_processor(config))
    config.algorithm.papo.kl_prcp_coef = 0.0
    accumulate_gradient(without, pictures, config, StepDiagnostics())
    assert torch.equal(gradient_of(policy.model), gradient_of(without.model))


def test_a_mask_is_the_prompt_s_on_its_occasion_in_a_run_of_this_seed(make_config):
    config = make_config(*PAPO)
    group = groups_of(load_configured_processor(config))[0]
    key = masked_group(group, config).prompt.pictures_key
    assert masked_group(copy.deepcopy(group), config).prompt.pictures_key == key
    assert masked_group(replace(group, key="0@7"), config).prompt.pictures_key != key
    other = make_config(*PAPO, "worker.rollout.seed=2")
    assert masked_group(group, other).prompt.pictures_key != key


def test_a_frozen_tower_sees_masked_pictures_once(make_config, all_float64):
    frozen = [*PAPO, "worker.actor.model.freeze_vision_tower=true"]
    config = make_config(*frozen, "worker.actor.ppo_epochs=2", *WHOLE)
    policy = double_policy(config)
    assert policy.features is not None
    looked = []
    policy.model.register_forward_pre_hook(
        lambda _, args: looked.append(len(args[0].prompts)) if type(args[0]).__name__ == "Look" else None
    )
    groups = groups_of(policy.processor)
    optimizer = torch.optim.SGD([p for p in policy.model.parameters() if p.requires_grad], lr=0.0)
    update_policy(policy, optimizer, groups, config)
    assert looked == [3, 3]  # pictures, then masked pictures
    found_W = gradient_of(policy.model)
    policy.features = None
    update_policy(policy, optimizer, groups, config)
    assert relative(found_W, gradient_of(policy.model)) < 1e-10


def test_a_response_whose_tokens_do_not_count_is_as_if_it_were_not_there(make_config, all_float64):
    config = make_config(*PAPO, "algorithm.overlong_responses=mask")
    groups = groups_of(load_configured_processor(config))
    groups[0].responses[1].finished = False
    found_W, found = gradient(config, groups)
    without = copy.deepcopy(groups)
    for values in (without[0].responses, without[0].old_log_probs):
        del values[1]
    without[0].advantages_G = groups[0].advantages_G[[0, 2, 3]]
    want_W, want = gradient(config, without)
    assert relative(found_W, want_W) < 1e-10
    assert found["actor/papo_kl"] == pytest.approx(want["actor/papo_kl"], rel=1e-10)


def test_an_update_whose_noise_is_measured_has_the_same_gradient(make_config, all_float64):
    config = make_config(*PAPO, *WHOLE)
    policy = double_policy(config)
    groups, optimizer = groups_of(policy.processor), torch.optim.SGD(policy.model.parameters(), lr=0.0)
    found = []
    for step in (None, 3):
        metrics = update_policy(policy, optimizer, groups, config, noise_step=step)
        found.append((gradient_of(policy.model), metrics["actor/papo_kl"]))
    assert metrics["actor/grad_noise"] > 0
    assert relative(found[1][0], found[0][0]) < 1e-10
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-12)


@pytest.mark.parametrize("way", ["public", "plain"])
def test_every_way_through_the_model_gives_it(make_config, way, all_float64):
    want_W, _ = gradient(make_config(*PAPO))
    config = make_config(*PAPO)
    policy = double_policy(config)
    policy.way = way
    accumulate_gradient(policy, groups_of(policy.processor), config, StepDiagnostics())
    assert relative(gradient_of(policy.model), want_W) < 1e-9


# --- ranks


def on_a_rank(folder, rank, ranks, kinds):
    """Gradient of a mini-batch, its figures, and for each forward whether it had a graph."""
    base = "configs/geometry3k_tiny_cpu.yaml"
    config = load_config(base, [*PAPO, "worker.actor.max_tokens_per_micro_batch=200"])
    model, processor = load_model(folder), load_processor(folder)
    answer_packed(model.double())
    policy = Policy(model, processor, banned_ids(model.config), None, "shared", ranks)
    groups = groups_of(processor)
    if ranks > 1:
        groups = [groups[i] for i in kinds[rank]]
    forwards = []
    model.register_forward_pre_hook(lambda *_: forwards.append(torch.is_grad_enabled()))
    figures = StepDiagnostics()
    accumulate_gradient(policy, groups, config, figures)
    gradient_W = gradient_of(model)
    if ranks > 1:
        dist.all_reduce(gradient_W)
    return gradient_W / ranks, figures.result(), forwards


# The groups of each of two ranks: pictures on both; and on the first alone, where the second trains little.
DEALT = {"mixed": ((0, 1, 3), (2, 4)), "pictures on one": ((0, 2, 4), (1, 3))}


def run_rank(rank, model, folder):
    torch.set_num_threads(1)
    for number, kinds in enumerate(DEALT.values()):
        store = f"file://{folder}/store{number}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
        gradient_W, figures, forwards = on_a_rank(model, rank, 2, kinds)
        dist.destroy_process_group()
        torch.save(gradient_W, Path(folder, f"{number}_{rank}.pt"))
        Path(folder, f"{number}_{rank}.json").write_text(json.dumps([figures, forwards]))


@pytest.mark.skipif(sys.platform == "win32", reason="gloo over a file store")
def test_two_ranks_have_the_gradient_of_one_and_run_as_many_forwards(tiny_folder, tmp_path):
    multiprocessing.set_forkserver_preload(["gmpo_vl.engines.updates", "pytest"])
    mp.start_processes(run_rank, (str(tiny_folder), str(tmp_path)), nprocs=2, start_method="forkserver")
    want_W, want, _ = on_a_rank(tiny_folder, 0, 1, None)
    for number in range(len(DEALT)):
        read = [json.loads((tmp_path / f"{number}_{rank}.json").read_text()) for rank in (0, 1)]
        assert read[0][1] == read[1][1]  # FSDP would wait for a forward that one of them leaves out
        assert {True, False} == set(read[0][1])
        for rank, (figures, _) in enumerate(read):
            found_W = torch.load(tmp_path / f"{number}_{rank}.pt", weights_only=True)
            assert relative(found_W, want_W) < 1e-6  # norms are in float32
            for name in ("papo_kl", "papo_entropy", "papo_entropy_masked", "pg_loss"):
                assert figures[f"actor/{name}"] == pytest.approx(want[f"actor/{name}"], rel=1e-6)


# --- runs


def figures(run):
    skip = ("time/", "memory/", "perf/")
    return [{k: v for k, v in line.items() if not k.startswith(skip)} for line in run.read_metrics()]


def test_a_run_stopped_half_way_goes_on_to_the_same_last_digit(make_config, tmp_path):
    more = [*PAPO, "worker.actor.ppo_epochs=2"]
    whole = train(make_config(*more))
    line = whole.read_metrics()[-1]
    assert line["actor/papo_kl"] > 0 < line["actor/papo_entropy_masked"]
    halves = [*more, f"trainer.save_checkpoint_path={tmp_path / 'halves'}"]
    train(make_config(*halves, "trainer.max_steps=2"))
    assert figures(train(make_config(*halves))) == figures(whole)
    weights = [
        (run / "checkpoints/step_000004/huggingface/model.safetensors").read_bytes()
        for run in (whole.folder, tmp_path / "halves")
    ]
    assert weights[0] == weights[1]


def test_a_run_without_it_has_no_figures_of_it(make_config):
    line = train(make_config("trainer.max_steps=1", "trainer.val_freq=-1")).read_metrics()[-1]
    assert not [name for name in line if "papo" in name]
