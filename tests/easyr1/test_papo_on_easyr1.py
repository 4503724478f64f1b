"""PAPO's gradient on FSDP ranks is engine local's, where a rank has no picture and nothing to train, too."""

import pytest
import torch

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

from ranks import make_groups, run_ranks, start_worker_with_sgd, train, whole_weights
from test_gradients import LR, MORE, in_order_for, local_gradients, local_weights, relative

from gmpo_vl.engines.easyr1.serialisation import groups_to_proto

PAPO = ["algorithm.papo.kl_prcp_coef=0.5", "algorithm.papo.aug_entropy_loss_coef=0.05"]
PAPO += ["algorithm.papo.ori_entropy_loss_coef=0.03"]
PAPO += [
    *MORE,
    "worker.actor.dynamic_batching=false",
    "worker.actor.micro_batch_size_per_device_for_update=2",
]


def mini_batches_of(config):
    """Groups of two updates; in the first the first of two ranks has text without variance alone."""
    groups = make_groups(config)
    groups = [groups[i] for i in (0, 1, 3, 2, 4, 5, 6, 7)]
    for group in groups[0:4:2]:
        assert not group.prompt.images
        group.advantages_G = torch.zeros_like(group.advantages_G)
    return groups


def test_two_ranks_one_rank_and_the_local_engine_agree(make_config):
    config, both = make_config(*PAPO), make_config(*PAPO, "trainer.n_gpus_per_node=2")
    groups = mini_batches_of(config)
    local, local_metrics = local_gradients(config, groups)
    [(one, one_metrics)] = run_ranks(1, train, config, groups, LR)
    (two, two_metrics), (second, _) = run_ranks(2, train, both, in_order_for(2, config, groups), LR)
    for update in range(2):
        assert relative(one[update], local[update]) < 1e-6
        assert relative(two[update], local[update]) < 1e-6
        assert torch.equal(two[update], second[update])
    for name in ("papo_kl", "papo_entropy", "papo_entropy_masked", "pg_loss"):
        assert one_metrics[f"actor/{name}"] == pytest.approx(local_metrics[f"actor/{name}"], rel=1e-5)
        assert two_metrics[f"actor/{name}"] == pytest.approx(local_metrics[f"actor/{name}"], rel=1e-5)


def trained_weights(rank, world, config, order):
    worker = start_worker_with_sgd(config, LR)
    tokens = [1 for group in order for _ in group.responses]
    data = groups_to_proto(order, lr=LR, way="shared", global_token_num=tokens).chunk(world)[rank]
    worker.update_actor(data)
    return whole_weights(worker.fsdp_module)


def test_so_do_they_with_a_frozen_tower(make_config):
    frozen = [*PAPO, "worker.actor.model.freeze_vision_tower=true"]
    config, both = make_config(*frozen), make_config(*frozen, "trainer.n_gpus_per_node=2")
    groups = mini_batches_of(config)
    start_W, local_W = local_weights(config, groups)
    found_W, _ = run_ranks(2, trained_weights, both, in_order_for(2, config, groups))
    assert relative(found_W - start_W, local_W - start_W) < 1e-6
