"""Games on engine easyr1: groups of unequal numbers of turns, with prompts of their own, give engine local's
log-probs and gradients, on one rank and on two, and through Ray."""

import copy
import pickle
from contextlib import contextmanager

import pytest
import torch

pytest.importorskip("verl", reason="EasyR1 is not installed: make test-easyr1 EASYR1_HOME=FOLDER")

import ray
from hand_made_games import make_games
from ranks import run_ranks, start_worker, start_worker_with_sgd, train, whole_weights
from ray import cloudpickle
from test_gradients import LR, MORE, in_order_for, local_gradients, local_weights, relative

from gmpo_vl.batching.planning import rows_of
from gmpo_vl.engines.easyr1.config import to_easyr1
from gmpo_vl.engines.easyr1.driver import start_ray, worker_class
from gmpo_vl.engines.easyr1.engine import GMPOTrainer
from gmpo_vl.engines.easyr1.export import export, trained_answers
from gmpo_vl.engines.easyr1.serialisation import filled_up, groups_of, groups_to_proto, taken_apart
from gmpo_vl.engines.local.engine import LocalEngine, build_policy
from gmpo_vl.engines.passes import log_probs_by_group
from gmpo_vl.setup import load_configured_processor, load_split

TWO = "trainer.n_gpus_per_node=2"
CUTS = {
    "dynamic": [],
    "2": ["worker.actor.dynamic_batching=false", "worker.actor.micro_batch_size_per_device_for_update=2"],
}


def sharing(game):
    """Which of its prompts each of a game's responses answers."""
    places = {id(prompt): i for i, prompt in enumerate(game.prompts)}
    return [places[id(row.prompt)] for row in rows_of([game])]


def test_turns_arrive_with_the_prompts_that_they_share_and_without_texts(make_config):
    games = make_games(make_config())[:5]
    sent = cloudpickle.dumps(groups_to_proto(filled_up(games, 2)))
    arrived = groups_of(pickle.loads(sent))
    assert [game.key for game in arrived] == [*(game.key for game in games), "copy 0"]
    assert sharing(games[0]) == [0, 1, 2, 0, 0, 3]
    for there, here in zip(arrived, games):
        assert sharing(there) == sharing(here)
        assert there.prompt is there.prompt_of(0)
        assert torch.equal(there.weights_G, here.weights_G)
        for k, response in enumerate(here.responses):
            turn, prompt = there.responses[k].turn, there.prompt_of(k)
            assert (turn.episode, turn.number) == (response.turn.episode, response.turn.number)
            assert torch.equal(prompt.ids_P, here.prompt_of(k).ids_P)
            assert prompt.pictures_key == here.prompt_of(k).pictures_key
            assert prompt.example.id == here.prompt_of(k).example.id
    for text in (b"a house", b"go on", b"a place", b"text text", b"Find thing"):
        assert text not in sent
    assert games[0].responses[0].turn.action == "go on " * 50  # the driver keeps them


def log_probs_of_rank(rank, world, config, games, way):
    """The workers' rows of this rank's games, and entropies."""
    data = groups_to_proto(games, way=way).chunk(world)[rank]
    found = start_worker(config).compute_log_probs(data).batch
    return found["old_log_probs"], found["entropy"]


@pytest.mark.parametrize("way", ["shared", "plain"])
def test_log_probs_of_turns_are_the_local_engine_s(make_config, way):
    config, both = make_config(*MORE), make_config(*MORE, TWO)
    games = make_games(config)
    policy = build_policy(config, load_configured_processor(config))
    policy.model.double()
    here = log_probs_by_group(policy, policy.model, games, config)
    found = run_ranks(2, log_probs_of_rank, both, games, way)
    there_NL, entropy_N = (torch.cat([of_rank[i] for of_rank in found]) for i in range(2))
    for ours, theirs in zip(here.of, taken_apart(games, there_NL), strict=True):
        for ours_T, theirs_T in zip(ours, theirs, strict=True):
            torch.testing.assert_close(theirs_T, ours_T, rtol=0, atol=1e-6)
    torch.testing.assert_close(entropy_N, here.entropy_N, rtol=1e-6, atol=0)


@pytest.mark.parametrize("cut", CUTS)
def test_two_ranks_one_rank_and_the_local_engine_agree_on_games(make_config, cut):
    """Some turns' gradient is 0; the last game has one turn alone, and pictures."""
    more = [*MORE, *CUTS[cut]]
    config, both = make_config(*more), make_config(*more, TWO)
    games = make_games(config)
    games[2].advantages_G[::2] = 0.0
    local, local_metrics = local_gradients(config, games)
    [(one, _)] = run_ranks(1, train, config, games, LR)
    (two, metrics), (second, _) = run_ranks(2, train, both, in_order_for(2, config, games), LR)
    assert len(two) == 2
    for update in range(2):
        assert relative(one[update], local[update]) < 1e-6
        assert relative(two[update], local[update]) < 1e-6
        assert torch.equal(two[update], second[update])
    for name in ("actor/pg_loss", "actor/grad_norm", "actor/ratio_max", "actor/ppo_kl"):
        assert metrics[name] == pytest.approx(local_metrics[name], rel=1e-5)
    for game in games:
        game.weights_G = None  # every turn the same: another gradient, so the weights arrived
    (same, _), _ = run_ranks(2, train, both, in_order_for(2, config, games), LR)
    assert relative(same[0], two[0]) > 0.01


def trained_weights(rank, world, config, games):
    """After old log-probs and updates from one store of features."""
    worker = start_worker_with_sgd(config, LR)
    tokens = [1 for game in games for _ in game.responses]

    def mine():
        return groups_to_proto(games, lr=LR, way="shared", global_token_num=tokens).chunk(world)[rank]

    worker.compute_log_probs(mine())
    worker.update_actor(mine())
    return whole_weights(worker.fsdp_module)


def test_so_do_they_with_a_frozen_tower(make_config):
    frozen = [*MORE, "worker.actor.model.freeze_vision_tower=true"]
    config, both = make_config(*frozen), make_config(*frozen, TWO)
    games = make_games(config)
    start_W, local_W = local_weights(config, games)
    found_W, _ = run_ranks(2, trained_weights, both, in_order_for(2, config, games))
    assert relative(found_W - start_W, local_W - start_W) < 1e-6


def parity_of_rank(rank, world, config, games):
    parity = start_worker(config, double=False).check_parity(groups_to_proto(games).chunk(world)[rank])
    return parity.holds, parity.gaps.largest


def test_parity_is_checked_where_a_rank_has_no_two_answers_to_one_prompt(make_config):
    """The own forward runs answer by answer, and gathers weights each time: ranks must run as many."""
    config = make_config(*MORE, TWO)
    shared, *_, alone = make_games(config)
    assert len(alone.responses) == 1
    (holds, largest), other = run_ranks(2, parity_of_rank, config, [shared, alone], seconds=300)
    assert holds
    assert (holds, largest) == other


def test_games_through_ray(make_config, tmp_path):
    """Seven games on two ranks: log-probs with a copy to fill up, updates dealt by their cost, a checkpoint
    whose export gives the trained log-probs of turns."""
    more = [*MORE, "worker.actor.optim.lr=1.0e-2"]
    config, here = make_config(*more, TWO), make_config(*more, "engine=local")
    prompts = load_split(config, config.data.train_files, load_configured_processor(config))
    local, games = LocalEngine(here, prompts.processor), make_games(config)
    with ray_of(config, prompts) as workers:
        workers.way = local.way = "shared"
        assert workers.check_parity(games[:7]).holds
        compare(workers.log_probs(games[:7]), local.log_probs(games[:7]))
        done = []
        theirs = workers.update(games, 0.01, done.append, None)
        ours = local.update(copy.deepcopy(games), 0.01)
        assert done == [sum(len(game.responses) for game in games)]
        assert theirs["actor/grad_norm"] == pytest.approx(ours["actor/grad_norm"], rel=1e-3)
        assert theirs["actor/pg_loss"] == pytest.approx(ours["actor/pg_loss"], rel=1e-3)
        after = workers.log_probs(games)
        compare(after, local.log_probs(games), atol=1e-3)
        (tmp_path / "checkpoint").mkdir()
        workers.save(tmp_path / "checkpoint", True)
    kept = torch.load(tmp_path / "checkpoint" / "trainer" / "parity.pt", weights_only=True)
    wanted = trained_answers(games[:2], after.of[:2], 1.0, "fp32")
    assert [len(responses) for responses in kept["responses"]] == [1, 1, 2]  # turns 1 and 2; a shared turn 1
    for name in ("responses", "log_probs"):
        for found, expected in zip(kept[name], getattr(wanted, name), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert export(tmp_path / "checkpoint", tmp_path / "model").largest < 1e-4


@contextmanager
def ray_of(config, prompts):
    """Two ranks' workers, as the driver starts them."""
    try:
        start_ray(config)
        workers = GMPOTrainer(to_easyr1(config, 3, True), config, prompts, worker_class(True))
        workers.init_workers()
        yield workers
    finally:
        ray.shutdown()


def compare(theirs, ours, atol=1e-5):
    for some, others in zip(theirs.of, ours.of, strict=True):
        torch.testing.assert_close(some, others, rtol=0, atol=atol)
    torch.testing.assert_close(theirs.entropy_N, ours.entropy_N, rtol=10 * atol, atol=0)
