"""What the parity checks of the shared forward and of an export accept: rounding in bf16, heavy tails and
all, and nothing wrong.
"""

import copy

import pytest
import torch
from planted_faults import one_further, sees_siblings
from tiny_runs import BASE

from gmpo_vl.config import load_config
from gmpo_vl.engines import parity
from gmpo_vl.engines.local.engine import build_policy
from gmpo_vl.engines.parity import TOLERANCE, check_parity, gaps_between
from gmpo_vl.engines.passes import log_probs_by_group
from gmpo_vl.models import forward
from gmpo_vl.models import layout as layouts
from gmpo_vl.models.layout import Block
from gmpo_vl.models.packing import Segment
from gmpo_vl.rollout.hf import generate
from gmpo_vl.setup import load_configured_processor, load_split
from gmpo_vl.types import Sampling

BF16 = TOLERANCE[torch.bfloat16]
PRETRAINED = ["worker.actor.model.model_path=gmpo_vl/models/pretrained", "data.max_response_length=64"]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory, diagrams):
    """The packaged model, which answers diagrams, in bf16, and 96 of its answers (some 1,400 tokens).

    Unlikely tokens are among them.
    """
    path = tmp_path_factory.mktemp("parity") / "run.yaml"
    path.write_text(BASE)
    files = [f"data.{kind}_files={diagrams / 'train.parquet'}" for kind in ("train", "val")]
    more = [
        *PRETRAINED,
        *files,
        "worker.actor.fsdp.mp_param_dtype=bf16",
        "worker.reward.reward_function=accuracy",
    ]
    config = load_config(path, more)
    processor = load_configured_processor(config)
    policy = build_policy(config, processor)
    prompts = load_split(config, config.data.train_files, processor).encode(range(24))
    groups = generate(
        policy.model, processor, prompts, Sampling(n=4, max_tokens=64, temperature=1.2), range(24)
    )
    return config, policy, groups


def token_log_probs(sampled, way, half=False):
    """(tokens,) of all answers. half: weights in bf16 too, as FSDP computes; otherwise autocast."""
    config, policy, groups = sampled
    policy = copy.copy(policy)
    policy.way = way
    if half:
        policy.model, policy.autocast_dtype = copy.deepcopy(policy.model).bfloat16(), None
    found = log_probs_by_group(policy, policy.model, groups, config)
    return torch.cat([log_probs_T for of_group in found.of for log_probs_T in of_group])


def sees_the_future(monkeypatch):
    real = layouts._masked_block

    def block(*pieces):
        made = real(*pieces)
        return Block(made.query_mQ, made.real_N, made.key_mK, torch.ones_like(made.mask_m1QK))

    monkeypatch.setattr(layouts, "_masked_block", block)


def misses_the_last_token_of_the_prompt(monkeypatch):
    def segment(start, length, prefix_start=0, prefix_length=0):
        return Segment(start, length, prefix_start, max(prefix_length - 1, 0))

    monkeypatch.setattr(forward, "Segment", segment)


WRONG = [one_further, sees_siblings, sees_the_future, misses_the_last_token_of_the_prompt]


@pytest.mark.parametrize("half", [False, True], ids=["autocast", "weights in bf16"])
def test_a_right_shared_forward_is_within_a_quarter_of_what_is_accepted(sampled, half):
    gaps = gaps_between(token_log_probs(sampled, "shared", half), token_log_probs(sampled, "plain", half))
    assert 0 < gaps.rms < BF16.rms / 4
    assert gaps.within(BF16)


@pytest.mark.parametrize("breaks", WRONG)
def test_a_wrong_one_is_refused_even_where_it_is_wrong_for_one_token_in_a_hundred(
    sampled, monkeypatch, breaks
):
    plain_N, right_N = token_log_probs(sampled, "plain"), token_log_probs(sampled, "shared")
    breaks(monkeypatch)
    wrong_N = token_log_probs(sampled, "shared")
    assert not gaps_between(wrong_N, plain_N).within(BF16)
    # Every hundredth token, averaged over where one begins to count.
    ways = []
    for first in range(100):
        some_N = right_N.clone()
        some_N[first::100] = wrong_N[first::100]
        ways.append(gaps_between(some_N, plain_N).rms ** 2)
    assert (sum(ways) / 100) ** 0.5 > BF16.rms


def test_the_proof_of_a_run_in_bf16_tells_right_from_wrong(sampled, monkeypatch):
    config, policy, groups = sampled
    right = check_parity(policy, groups, config)
    assert right.holds
    assert "bfloat16" in str(right)
    sees_siblings(monkeypatch)
    assert not check_parity(policy, groups, config).holds


def test_what_an_update_left_behind_is_not_counted(sampled):
    """A run asks again where rows become longer: there the gradients of the last update still stand."""
    config, policy, groups = sampled
    clean = check_parity(policy, groups, config)
    for parameter in policy.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert check_parity(policy, groups, config) == clean
    assert all(parameter.grad is None for parameter in policy.model.parameters())


def test_heavy_tails_are_rounding_and_not_a_number_is_not():
    """As two right kernels differ on a model of billions: 0.02 nats, and a nat for 3 tokens of 4,000."""
    gap_N = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 0.02
    gap_N[::1500] = 1.0
    nothing_N = torch.zeros(4000)
    assert gaps_between(gap_N, nothing_N).within(BF16)
    assert not gaps_between(gap_N, nothing_N).within(TOLERANCE[torch.float32])
    gap_N[7] = float("nan")
    for tolerance in TOLERANCE.values():
        assert not gaps_between(gap_N, nothing_N).within(tolerance)


def test_single_and_double_precision_accept_no_token_that_is_off():
    off_N = torch.zeros(100_000, dtype=torch.float64)
    off_N[-1] = 2e-3
    for dtype in (torch.float32, torch.float64):
        assert not gaps_between(off_N, torch.zeros_like(off_N)).within(TOLERANCE[dtype])
    assert parity.Gaps(0.0, 0.0).within(TOLERANCE[torch.float64])
