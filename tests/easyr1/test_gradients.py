"""The gradient is one and the same: on one rank or two, in any micro-batches, on engine easyr1 or local."""

import copy
import functools

import pytest
import torch

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

from ranks import make_groups, run_ranks, start_worker, start_worker_with_sgd, train, whole_weights
from tiny_families import save_tiny_family

from gmpo_vl.batching.planning import mini_batches
from gmpo_vl.engines.easyr1.serialisation import groups_to_proto, taken_apart
from gmpo_vl.engines.local.engine import build_policy
from gmpo_vl.engines.passes import log_probs_by_group
from gmpo_vl.engines.updates import update_policy
from gmpo_vl.models.families import qwen
from gmpo_vl.models.forward import response_log_probs, unwrap
from gmpo_vl.models.moe import save_tiny_moe
from gmpo_vl.models.packing import pack
from gmpo_vl.models.routers import Routing
from gmpo_vl.setup import load_configured_processor
from gmpo_vl.tasks.countdown.data import TINY, export

LR = 0.05
MORE = ["worker.actor.max_grad_norm=1.0e+9", "worker.actor.global_batch_size=4", "data.rollout_batch_size=8"]


def relative(a, b):
    return float((a - b).norm() / b.norm())


def in_order_for(ranks, config, groups):
    """As trainer.in_order_of_ranks deals them, in turn instead of by cost."""
    batches = list(mini_batches(groups, config.worker.actor.global_batch_size))
    return [group for rank in range(ranks) for batch in batches for group in batch[rank::ranks]]


def local_gradients(config, groups, noise_step=None):
    """Engine local's, by the same plain SGD."""
    policy = build_policy(config, load_configured_processor(config))
    policy.model.double()
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=LR)
    gradients = []

    def keep(*_):
        named = sorted(policy.model.named_parameters())
        gradients.append(torch.cat([p.grad.flatten().double() for _, p in named]))

    optimizer.register_step_pre_hook(keep)
    metrics = update_policy(policy, optimizer, copy.deepcopy(groups), config, noise_step=noise_step)
    return gradients, metrics


def local_weights(config, groups):
    """Engine local's weights before and after its updates by plain SGD. FSDP puts no gradients together
    where some parameters have none, as with a frozen tower: weights are compared there."""
    policy = build_policy(config, load_configured_processor(config))
    policy.model.double()
    named = sorted(policy.model.named_parameters())
    start_W = torch.cat([p.detach().flatten() for _, p in named])
    optimizer = torch.optim.SGD([p for _, p in named if p.requires_grad], lr=LR)
    update_policy(policy, optimizer, copy.deepcopy(groups), config)
    return start_W, torch.cat([p.detach().flatten() for _, p in named])


@pytest.mark.parametrize("loss_type", ["gmpo", "dapo"])
def test_two_ranks_one_rank_and_the_local_engine_agree_in_every_update(make_config, loss_type):
    config = make_config(*MORE, f"worker.actor.loss_type={loss_type}", "worker.actor.ppo_epochs=2")
    both = make_config(
        *MORE, f"worker.actor.loss_type={loss_type}", "worker.actor.ppo_epochs=2", "trainer.n_gpus_per_node=2"
    )
    groups = make_groups(config)
    local, local_metrics = local_gradients(config, groups)
    [(one, one_metrics)] = run_ranks(1, train, config, groups, LR)
    (two, two_metrics), (second, _) = run_ranks(2, train, both, in_order_for(2, config, groups), LR)
    assert len(one) == len(two) == len(local) == 4  # two mini-batches, twice
    for update in range(4):
        assert relative(two[update], one[update]) < 1e-6
        assert relative(one[update], local[update]) < 1e-6
        assert torch.equal(two[update], second[update])
    for name in ("actor/pg_loss", "actor/grad_norm", "actor/ratio_max", "actor/ppo_kl"):
        assert two_metrics[name] == pytest.approx(one_metrics[name], rel=1e-5)
        assert one_metrics[name] == pytest.approx(local_metrics[name], rel=1e-5)


def test_the_gradient_s_noise_is_the_local_engine_s_on_one_rank_and_two(make_config):
    """The halves are the same groups wherever they run; in half an update a rank may have nothing to run."""
    config, both = make_config(*MORE), make_config(*MORE, "trainer.n_gpus_per_node=2")
    groups = make_groups(config)
    plain, _ = local_gradients(config, groups)
    local, local_metrics = local_gradients(config, groups, 5)
    [(one, one_metrics)] = run_ranks(1, train, config, groups, LR, 5)
    dealt = in_order_for(2, config, groups)
    (two, two_metrics), (_, second_metrics) = run_ranks(2, train, both, dealt, LR, 5)
    for update in range(2):
        assert relative(local[update], plain[update]) < 1e-12
        assert relative(one[update], local[update]) < 1e-6
        assert relative(two[update], local[update]) < 1e-6
    for which in ("", "_first", "_later"):
        for name in (f"actor/grad_variance{which}", f"actor/grad_signal{which}"):
            assert one_metrics[name] == pytest.approx(local_metrics[name], rel=1e-5)
            assert two_metrics[name] == second_metrics[name] == pytest.approx(local_metrics[name], rel=1e-5)


@pytest.mark.parametrize(
    "correction",
    [
        "{rollout_is: token, rollout_is_threshold: 1.2, rollout_rs: token_k1, rollout_rs_threshold: 1.5}",
        "{rollout_is: sequence, rollout_rs: seq_mean_k3, rollout_rs_threshold: 0.05}",
    ],
)
def test_corrections_of_the_sampler_agree_over_ranks_and_engines(make_config, correction):
    """What is rejected leaves every rank's weight; the sampler's log-probs travel to the ranks."""
    more = [*MORE, f"algorithm.rollout_correction={correction}"]
    config, both = make_config(*more), make_config(*more, "trainer.n_gpus_per_node=2")
    groups = make_groups(config)
    local, figures = local_gradients(config, groups)
    plain, _ = local_gradients(make_config(*MORE), groups)
    (two, of_two), _ = run_ranks(2, train, both, in_order_for(2, config, groups), LR)
    for update in range(2):
        assert relative(two[update], local[update]) < 1e-6
    assert relative(local[0], plain[0]) > 0.01
    assert of_two["actor/pg_loss"] == pytest.approx(figures["actor/pg_loss"], rel=1e-5)


CUTS = {
    "1": ["worker.actor.dynamic_batching=false", "worker.actor.micro_batch_size_per_device_for_update=1"],
    "4": ["worker.actor.dynamic_batching=false", "worker.actor.micro_batch_size_per_device_for_update=4"],
    "dynamic": ["worker.actor.micro_batch_size_per_device_for_update=1"],  # of as many tokens as one full row
    "whole": [
        "worker.actor.dynamic_batching=false",
        "worker.actor.micro_batch_size_per_device_for_update=16",
    ],
}


def first_gradients(make_config, *more):
    """The first update's gradient for every way of cutting its mini-batch into micro-batches."""
    found = {}
    for name, cut in CUTS.items():
        config = make_config(*MORE, *cut, *more)
        [(gradients, _)] = run_ranks(1, train, config, make_groups(config), LR)
        found[name] = gradients[0]
    return found


def test_micro_batches_change_nothing_where_easyr1_s_sequence_mode_changes_a_lot(make_config, capsys):
    ours = first_gradients(make_config)
    theirs = first_gradients(
        make_config, "worker.actor.loss_type=easyr1/default", "worker.actor.loss_avg_mode=seq"
    )
    with capsys.disabled():
        print("\nrelative gradient error by micro-batch:", end="")
        for name in ("1", "4", "dynamic"):
            gaps = [relative(gradients[name], gradients["whole"]) for gradients in (ours, theirs)]
            print(f"  {name}: gmpo {gaps[0]:.1e}, EasyR1's default/seq {gaps[1]:.2f}", end="")
            assert gaps[0] < 1e-6
            assert gaps[1] > 1e-3  # what its split does; if EasyR1 mends it, this says so
        print()


def test_kl_entropy_and_skipped_groups_agree_over_ranks_too(make_config):
    """Rank 1 has nothing to run in the first mini-batch but must take part; rank 0 has more micro-batches
    than it.
    """
    more = [
        *MORE,
        "worker.actor.dynamic_batching=false",
        "worker.actor.micro_batch_size_per_device_for_update=2",
    ]
    config, both = make_config(*more), make_config(*more, "trainer.n_gpus_per_node=2")
    groups = make_groups(config)
    for group in groups[1:4:2]:
        group.advantages_G = torch.zeros_like(group.advantages_G)
    [(one, one_metrics)] = run_ranks(1, train, config, groups, LR)
    (two, two_metrics), _ = run_ranks(2, train, both, in_order_for(2, config, groups), LR)
    for update in range(2):
        assert relative(two[update], one[update]) < 1e-6
    assert two_metrics["actor/pg_loss"] == pytest.approx(one_metrics["actor/pg_loss"], rel=1e-9)

    regularised = ["algorithm.disable_kl=false", "algorithm.use_kl_loss=true", "algorithm.kl_coef=0.1"]
    regularised += ["algorithm.kl_penalty=low_var_kl", "worker.actor.entropy_coef=0.01"]
    config, both = (
        make_config(*more, *regularised),
        make_config(*more, *regularised, "trainer.n_gpus_per_node=2"),
    )
    for group in groups:
        group.ref_log_probs = [old - 0.1 for old in group.old_log_probs]
    local, _ = local_gradients(config, groups)
    (two, _), _ = run_ranks(2, train, both, in_order_for(2, config, groups), LR)
    for update in range(2):
        assert relative(two[update], local[update]) < 1e-6


def easyr1_log_probs(rank, world, config, groups):
    worker = start_worker(config)
    data = groups_to_proto(groups, way="plain").chunk(world)[rank]
    return worker.compute_log_probs(data).batch["old_log_probs"]


def test_easyr1_s_own_forward_on_our_rows_gives_our_log_probs(make_config):
    """Padding, positions and pixels of the rows that its own losses are trained on are what it would have
    made.
    """
    config = make_config(*MORE, "worker.actor.loss_type=easyr1/default", "worker.rollout.temperature=0.7")
    groups = make_groups(config)
    [theirs_NL] = run_ranks(1, easyr1_log_probs, config, groups)
    config = make_config(*MORE)
    policy = build_policy(config, load_configured_processor(config))
    policy.model.double()
    for group, theirs in zip(groups, taken_apart(groups, theirs_NL)):
        packed = pack(
            [(group.prompt, r.ids_T) for r in group.responses], policy.processor.family, policy.device
        )
        with torch.no_grad():
            ours_BT, _ = response_log_probs(policy.model, packed, 0.7, ())  # EasyR1's forward bans nothing
        for theirs_T, ours_T in zip(theirs, ours_BT):
            torch.testing.assert_close(theirs_T.double(), ours_T[: len(theirs_T)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_vl_moe"])
def test_other_vision_models_agree_over_ranks_too(make_config, tmp_path, family):
    """DeepStack and experts, with a rank that has only text in its second mini-batch."""
    model = f"worker.actor.model.model_path={save_tiny_family(tmp_path / family, family)}"
    config, both = make_config(*MORE, model), make_config(*MORE, model, "trainer.n_gpus_per_node=2")
    groups = make_groups(config)
    groups = [*groups[:4], *(groups[i] for i in (6, 4, 7, 5))]
    local, _ = local_gradients(config, groups)
    (two, _), _ = run_ranks(2, train, both, in_order_for(2, config, groups), LR)
    for update in range(2):
        assert relative(two[update], local[update]) < 1e-6


def routed(rank, world, config, groups):
    """What the workers send of the routers, a row a group of this rank."""
    worker = start_worker(config)
    data = groups_to_proto(groups, way=worker.actor.policy.way).chunk(world)[rank]
    return worker.compute_log_probs(data).batch["routing"]


@pytest.mark.parametrize("family", ["qwen2_moe", "qwen3_moe"])
def test_text_mixtures_agree_over_ranks_and_count_their_routers_alike(make_config, tmp_path, family):
    """One expert of eight (which goes one rollout at a time under this transformers), and two of four in a
    shared row.
    """
    export(tmp_path / "data", {"train": 12, "validation": 4}, TINY)
    one_of_eight = family == "qwen2_moe"
    save = save_tiny_moe if one_of_eight else functools.partial(save_tiny_family, family=family)
    more = [*MORE, f"worker.actor.model.model_path={save(tmp_path / family)}"]
    more += [f"data.train_files={tmp_path / 'data/train.parquet'}"]
    config, both = make_config(*more), make_config(*more, "trainer.n_gpus_per_node=2")
    groups = make_groups(config)
    local, _ = local_gradients(config, groups)
    (two, _), _ = run_ranks(2, train, both, in_order_for(2, config, groups), LR)
    for update in range(2):
        assert relative(two[update], local[update]) < 1e-6
    nothing = copy.deepcopy(groups)  # for rank 1 in the first update: it has fewer rows to run than rank 0
    for group in nothing[1:4:2]:
        group.advantages_G = torch.zeros_like(group.advantages_G)
    local, _ = local_gradients(config, nothing)
    (two, _), _ = run_ranks(2, train, both, in_order_for(2, config, nothing), LR)
    assert relative(two[0], local[0]) < 1e-6

    policy = build_policy(config, load_configured_processor(config))
    policy.model.double()
    here = log_probs_by_group(policy, policy.model, groups, config).routing
    assert here is not None
    sums_NS = torch.cat(run_ranks(2, routed, both, groups))
    there = Routing(unwrap(policy.model).config, sums_NS)
    assert there.metrics() == pytest.approx(here.metrics(), rel=1e-6)
    assert there.tokens == sum(len(r.ids_T) for group in groups for r in group.responses)


def passes_of_a_step(rank, world, config, order):
    """Old and reference log-probs, two epochs of updates: log-probs, weights, and pictures in each call of
    the ViT.
    """
    worker = start_worker_with_sgd(config, LR)
    looked_at: list[list[int]] = []
    real = qwen.image_features

    def counted(model, patches, grid_N3):
        looked_at[-1].append(len(grid_N3))
        return real(model, patches, grid_N3)

    qwen.image_features = counted  # in this process

    def data():
        looked_at.append([])
        tokens = [1 for group in order for _ in group.responses]
        proto = groups_to_proto(order, lr=LR, way="shared", global_token_num=tokens)
        return proto.chunk(world)[rank]

    old = worker.compute_log_probs(data()).batch["old_log_probs"]
    reference = worker.compute_ref_log_probs(data()).batch["ref_log_probs"]
    worker.update_actor(data())
    worker.forget_features()
    worker.compute_ref_log_probs(data())
    worker.compute_log_probs(data())  # what the reference saw is not taken for the policy's
    worker.forget_features()
    worker.compute_log_probs(data())
    return old, reference, whole_weights(worker.fsdp_module), looked_at


def test_a_frozen_tower_looks_at_each_picture_once_a_step_on_every_rank(make_config):
    """Rank 0 has four pictures in its groups, rank 1 one: both run the ViT once, for the old, reference and
    update passes.
    """
    more = [*MORE, "worker.actor.model.freeze_vision_tower=true", "worker.actor.ppo_epochs=2"]
    more += ["algorithm.disable_kl=false", "algorithm.use_kl_loss=true"]
    config, both = make_config(*more), make_config(*more, "trainer.n_gpus_per_node=2")
    groups = make_groups(config)
    groups = [groups[i] for i in (1, 0, 2, 3, 4, 6, 5, 7)]
    for group in groups:
        group.ref_log_probs = [old - 0.1 for old in group.old_log_probs]
    start_W, local_W = local_weights(config, groups)
    [(one_old, one_reference, one_W, [once, *nothing, reference, again, anew])] = run_ranks(
        1, passes_of_a_step, config, groups
    )
    assert (sum(once), nothing) == (5, [[], []])
    assert reference == again == anew == once  # between the steps nothing is kept
    found = run_ranks(2, passes_of_a_step, both, in_order_for(2, config, groups))
    assert [looked_at for *_, looked_at in found] == [
        [[count], [], [], [count], [count], [count]] for count in (4, 1)
    ]
    torch.testing.assert_close(one_old, one_reference, rtol=0, atol=1e-6)
    old_NL = torch.cat([old for old, *_ in found])
    places = {id(group): i for i, group in enumerate(in_order_for(2, config, groups))}
    torch.testing.assert_close(old_NL[[places[id(g)] for g in groups]], one_old, rtol=0, atol=1e-6)
    for weights_W in (one_W, found[0][2]):
        assert relative(weights_W - start_W, local_W - start_W) < 1e-6
