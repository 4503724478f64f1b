"""An update of games: one gradient, that of the equation, however its turns are packed, cut and dealt."""

import itertools
import json
import multiprocessing
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_families import save_tiny_text

from gmpo_vl.batching.planning import rows_of
from gmpo_vl.config import AlgorithmConfig, load_config
from gmpo_vl.engines.advantages import fill_advantages
from gmpo_vl.engines.halves import random_halves
from gmpo_vl.engines.passes import forward
from gmpo_vl.engines.policy import Policy
from gmpo_vl.engines.updates import accumulate_gradient, update_policy
from gmpo_vl.models.forward import answer_packed
from gmpo_vl.models.loading import banned_ids, load_model
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.policy import StepDiagnostics
from gmpo_vl.policy.gradient_noise import half_variance
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example, Group, Response, Turn

LIFT = runpy.run_path(str(Path(__file__).parents[1] / "models" / "conftest.py"))
all_float64 = LIFT["all_float64"]

PAIRS = list(itertools.product(("turn", "episode"), ("turns", "episodes")))
KL = ("algorithm.disable_kl=false", "algorithm.use_kl_loss=true", "algorithm.kl_penalty=low_var_kl")
TERMS = (*KL, "algorithm.kl_coef=0.3", "worker.actor.entropy_coef=0.05")
ROWS = "worker.actor.micro_batch_size_per_device_for_update"
TOKENS = "worker.actor.max_tokens_per_micro_batch"
CUTS = {
    "plain, 4 rows": ("plain", f"{ROWS}=4"),
    "plain, all": ("plain", f"{ROWS}=99"),
    "shared, all": ("shared", f"{ROWS}=99"),
    "shared, 3 rows": ("shared", f"{ROWS}=3"),
    "shared, 150 tokens": ("shared", f"{ROWS}=99", f"{TOKENS}=150"),
}
# Turns of each episode of each group, their scores, and which of their turns were invalid.
GAMES = (
    ((1, 4, 2), (1.0, 0.0, 0.25), {2}),
    ((2, 1, 2), (0.0, 1.0, 1.0), {0, 4}),
)


@pytest.fixture(scope="module")
def folders(tiny_folder, tmp_path_factory):
    return {"pictures": tiny_folder, "text": save_tiny_text(tmp_path_factory.mktemp("text"))}


def policy_of(folder, way="plain", ranks=1) -> Policy:
    model = load_model(folder).double()
    answer_packed(model)
    return Policy(model, load_processor(folder), banned_ids(model.config), None, way, ranks)


def examples_of(kind: str) -> list[Example]:
    """Prompts of turns: of none, one and two pictures."""
    if kind == "text":
        return [Example(f"t{i}", "Go on. " * (i + 1) + f"Step {i}?", "-") for i in range(8)]
    drawn = list(make_examples("train", 8, seed=0))
    drawn[1] = Example("both", "Before <image>, now <image>.", "-", drawn[0].images + drawn[1].images)
    drawn[2] = Example("none", "Nothing to see. Where to?", "-")
    return drawn


def games(policy: Policy, kind: str, algorithm: AlgorithmConfig, played=GAMES) -> list[Group]:
    """Two groups. Turns of one number share a prompt, and a fourth turn sees what the first one saw."""
    draw = torch.Generator().manual_seed(0)
    examples, groups = examples_of(kind), []
    for g, (lengths, scores, invalid) in enumerate(played):
        prompts = [encode_prompt(example, policy.processor) for example in examples[4 * g : 4 * g + 4]]
        group = Group(f"game {g}", prompts[0], [], [{"overall": score} for score in scores])
        for episode, length in enumerate(lengths):
            for number in range(1, length + 1):
                k = len(group.responses)
                place = (number - 1) % 3
                turn = Turn(
                    prompts[place], episode, number, reward=scores[episode] * (number == length),
                    penalty=0.1 * (k in invalid), seen=str(place),
                )  # fmt: skip
                ids_T = torch.randint(20, 200, (1 + (5 * k + 3 * g) % 7,), generator=draw)
                group.responses.append(Response(ids_T, torch.zeros(len(ids_T)), "", True, 0, turn=turn))
        for of in (group.old_log_probs, group.ref_log_probs):
            of += [torch.randn(len(r.ids_T), generator=draw) * 0.4 - 5.8 for r in group.responses]
        groups.append(group)
    fill_advantages(groups, algorithm)
    return groups


def configured(*more: str):
    return load_config("configs/geometry3k_tiny_cpu.yaml", ["worker.actor.global_batch_size=2", *more])


def flat_gradient(policy: Policy) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for _, p in sorted(policy.model.named_parameters())])


def gradient(policy: Policy, groups: list[Group], config) -> tuple[torch.Tensor, dict[str, float]]:
    """Of one mini-batch, over all ranks, and the update's figures."""
    policy.model.zero_grad()
    figures = StepDiagnostics()
    accumulate_gradient(policy, groups, config, figures)
    found = flat_gradient(policy)
    if policy.ranks > 1:
        dist.all_reduce(found)
    return found / policy.ranks, figures.result()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def algorithm_of(weight: str, baseline: str, estimator: str = "grpo") -> AlgorithmConfig:
    return AlgorithmConfig(adv_estimator=estimator, episode_weight=weight, episode_baseline=baseline)


def equation(policy: Policy, groups: list[Group], config, weight: str) -> torch.Tensor:
    """-J with its two terms, written out row by row; GMPO's clip is 0.4 in log space."""
    above, below = torch.zeros((), dtype=torch.float64), 0.0
    for (lengths, _, _), group in zip(GAMES, groups):
        per_turn = [length for length in lengths for _ in range(length)]
        for row, turns in zip(rows_of([group]), per_turn):
            log_probs_BT, entropy_BT = forward(policy, policy.model, [row], config, with_entropy=True)
            log_probs_T, old_T = log_probs_BT[0], group.old_log_probs[row.k].double()
            ratio_T = log_probs_T - old_T
            clipped_T = ratio_T.clamp(max=0.4) if row.advantage > 0 else ratio_T.clamp(min=-0.4)
            gap_T = group.ref_log_probs[row.k].double() - log_probs_T
            kl = (gap_T.exp() - gap_T - 1).mean()
            loss = -row.advantage.double() * clipped_T.mean().exp() + 0.3 * kl - 0.05 * entropy_BT[0].mean()
            w = 1.0 if weight == "turn" else 1 / turns
            above, below = above + w * loss, below + w
    return above / below


@pytest.mark.parametrize("kind", ["text", "pictures"])
@pytest.mark.parametrize(("weight", "baseline"), PAIRS)
def test_the_gradient_is_the_equation_s_shared_or_plain_and_however_it_is_cut(
    folders, kind, weight, baseline, all_float64
):
    policy = policy_of(folders[kind])
    config = configured(*TERMS)
    groups = games(policy, kind, algorithm_of(weight, baseline))
    assert len({id(p) for g in groups for p in g.prompts}) == 5
    policy.model.zero_grad()
    equation(policy, groups, config, weight).backward()
    used = [p.grad if p.grad is not None else torch.zeros_like(p) for p in policy.model.parameters()]
    want = {name: grad for (name, _), grad in zip(policy.model.named_parameters(), used)}
    want_W = torch.cat([want[name].flatten() for name in sorted(want)])
    figures = []
    for way, *cut in CUTS.values():
        policy.way = way
        found_W, metrics = gradient(policy, groups, configured(*TERMS, *cut))
        assert relative(found_W, want_W) < 1e-10
        figures.append(metrics)
    assert 0 < figures[0]["actor/pg_clipfrac_higher"] < 1
    for metrics in figures[1:]:
        assert metrics == pytest.approx(figures[0], rel=1e-6, abs=1e-9)


def test_pairs_and_estimators_differ(folders, all_float64):
    """What the other tests compare is not one gradient."""
    policy, config = policy_of(folders["text"]), configured(f"{ROWS}=99")
    found = [gradient(policy, games(policy, "text", algorithm_of(*pair)), config)[0] for pair in PAIRS]
    found.append(gradient(policy, games(policy, "text", algorithm_of(*PAIRS[0], "gigpo")), config)[0])
    for a, b in itertools.combinations(found, 2):
        assert relative(a, b) > 1e-2


@pytest.mark.parametrize("loss_type", ["dapo", "dr_grpo", "gspo"])
def test_other_objectives_weigh_turns_too(folders, loss_type, all_float64):
    """dapo's weight of a sequence is its tokens; a turn's weight multiplies it."""
    algorithm, more = algorithm_of("episode", "episodes", "gigpo"), [f"worker.actor.loss_type={loss_type}"]
    policy = policy_of(folders["pictures"])
    groups = games(policy, "pictures", algorithm)
    want_W, _ = gradient(policy, groups, configured(*TERMS, *more, f"{ROWS}=1"))
    policy.way = "shared"
    found_W, _ = gradient(policy, groups, configured(*TERMS, *more, f"{ROWS}=99", f"{TOKENS}=150"))
    assert relative(found_W, want_W) < 1e-10
    by_row, total = torch.zeros_like(want_W), 0.0
    for group in groups:
        for k, response in enumerate(group.responses):
            alone = Group(
                f"{group.key} {k}", group.prompt, [response], group.scores,
                advantages_G=group.advantages_G[[k]], old_log_probs=[group.old_log_probs[k]],
                ref_log_probs=[group.ref_log_probs[k]],
            )  # fmt: skip
            w = float(group.weights_G[k]) * (len(response.ids_T) if loss_type == "dapo" else 1)
            by_row += w * gradient(policy, [alone], configured(*TERMS, *more))[0]
            total += w
    assert relative(by_row / total, want_W) < 1e-10


def test_turns_without_an_advantage_are_not_run_and_keep_their_weight(folders, all_float64):
    policy, config = policy_of(folders["text"], "shared"), configured(f"{ROWS}=99")
    groups = games(policy, "text", algorithm_of("episode", "episodes"))
    alone_W, _ = gradient(policy, groups[:1], config)
    flat = (GAMES[0], (GAMES[1][0], (1.0, 1.0, 1.0), set()))
    groups = games(policy, "text", algorithm_of("episode", "episodes"), flat)
    assert not groups[1].advantages_G.any()
    both_W, _ = gradient(policy, groups, config)
    assert relative(2 * both_W, alone_W) < 1e-10  # three episodes of six


@pytest.mark.parametrize("weight", ["turn", "episode"])
def test_the_noise_of_the_gradient_has_the_turns_weights(folders, weight, all_float64):
    policy = policy_of(folders["text"], "shared")
    config = configured(f"{ROWS}=99", "worker.actor.max_grad_norm=1.0e+9")
    groups = games(policy, "text", algorithm_of(weight, "turns"))
    means = [gradient(policy, [group], config)[0] for group in groups]
    weights = [sum(lengths) if weight == "turn" else 3.0 for lengths, _, _ in GAMES]
    (first,) = random_halves(policy, groups, config.worker.rollout.seed, step=7, update=0).first
    one = [group.key for group in groups].index(first)
    share = weights[one] / sum(weights)
    whole_W = sum(w * mean_W for w, mean_W in zip(weights, means)) / sum(weights)
    variance = half_variance(float((share * means[one] - share * whole_W).norm()), share)
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=0.0)
    metrics = update_policy(policy, optimizer, groups, config, noise_step=7)
    assert relative(flat_gradient(policy), whole_W) < 1e-10
    assert metrics["actor/grad_variance"] == pytest.approx(variance, rel=1e-9)


# --- ranks


def run_rank(rank: int, model: dict[str, str], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    with pytest.MonkeyPatch.context() as patch:
        LIFT["lift_to_float64"](patch)
        for kind, where in model.items():
            policy = policy_of(where, "shared", ranks=2)
            for weight, baseline in PAIRS:
                mine = [games(policy, kind, algorithm_of(weight, baseline))[rank]]
                found_W, figures = gradient(policy, mine, configured(*TERMS, f"{ROWS}=5"))
                name = f"{kind}_{weight}_{baseline}_{rank}"
                torch.save(found_W, Path(folder, f"{name}.pt"))
                Path(folder, f"{name}.json").write_text(json.dumps(figures))
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform == "win32", reason="gloo over a file store")
def test_two_ranks_have_the_gradient_of_one(folders, tmp_path, all_float64):
    """A game each: of seven turns and of five, with three prompts and two."""
    multiprocessing.set_forkserver_preload(["gmpo_vl.engines.updates", "pytest"])
    given = ({kind: str(folder) for kind, folder in folders.items()}, str(tmp_path))
    mp.start_processes(run_rank, given, nprocs=2, start_method="forkserver")
    for kind, folder in folders.items():
        policy = policy_of(folder)
        for weight, baseline in PAIRS:
            groups = games(policy, kind, algorithm_of(weight, baseline))
            want_W, want = gradient(policy, groups, configured(*TERMS, f"{ROWS}=3"))
            for rank in (0, 1):
                name = f"{kind}_{weight}_{baseline}_{rank}"
                found_W = torch.load(tmp_path / f"{name}.pt", weights_only=True)
                assert relative(found_W, want_W) < 1e-10
                of_rank = json.loads((tmp_path / f"{name}.json").read_text())
                assert of_rank == pytest.approx(want, rel=1e-6, abs=1e-9)
