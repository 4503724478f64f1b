"""A shared forward that is wrong for a kind of model is found out before it is used, and the run says so
once."""

import pytest
from families.tiny import save_family
from planted_faults import one_further, sees_siblings
from tiny_families import save_tiny_family
from tiny_runs import BASE, settings_of_run
from transformers import AttentionInterface

from gmpo_vl.config import load_config
from gmpo_vl.engines import loop
from gmpo_vl.engines.local.engine import build_policy, train
from gmpo_vl.engines.parity import check_parity
from gmpo_vl.models import compat, forward, shared, states
from gmpo_vl.rollout.hf import generate
from gmpo_vl.setup import load_configured_processor, load_split
from gmpo_vl.types import Sampling

needs_states = pytest.mark.skipif(not compat.TRANSFORMERS_5, reason="only transformers 5 knows Qwen3.5")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def folder(kind):
        if kind not in made:
            save = save_tiny_family if kind == "qwen3_5" else save_family
            made[kind] = save(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return folder


@pytest.fixture
def config_of(folder_of, diagrams, tmp_path):
    def config(kind, *more):
        path = tmp_path / "run.yaml"
        path.write_text(BASE)
        few = ["data.max_prompt_length=512", "trainer.max_steps=2", "trainer.val_freq=-1"]
        return load_config(path, [*settings_of_run(tmp_path, diagrams, folder_of(kind)), *few, *more])

    return config


def sees_all_a_little(monkeypatch):
    """Less than rounding in half precision explains."""
    right = shared.group_shared_attention

    def attention(*args, **options):
        out, _ = right(*args, **options)
        return (out + 1e-3 * out.mean(dim=1, keepdim=True) if options.get("layout") else out), None

    monkeypatch.setitem(AttentionInterface._global_mapping, shared.ATTENTION, attention)


def sees_the_first_prompt_a_little(monkeypatch):
    right = shared.group_shared_attention

    def attention(*args, **options):
        out, _ = right(*args, **options)
        if (layout := options.get("layout")) is not None:
            out = out + 1e-3 * out[:, : layout.segments[0].length].mean(dim=1, keepdim=True)
        return out, None

    monkeypatch.setitem(AttentionInterface._global_mapping, shared.ATTENTION, attention)


def no_picture_mask(monkeypatch):
    own = forward.build_layout
    monkeypatch.setattr(forward, "build_layout", lambda segments, device, masks: own(segments, device))


def no_window(monkeypatch):
    monkeypatch.setattr(shared, "_window", lambda module, options: None)


def stale_state(monkeypatch):
    """Of the first prompt, for all responses."""
    right = states.Carry

    def carry(conv=None, recurrent=None):
        kept = [None if x is None else x[:1].expand_as(x) for x in (conv, recurrent)]
        return right(*kept)

    monkeypatch.setattr(states, "Carry", carry)


def no_state(monkeypatch):
    right = states.Carry
    monkeypatch.setattr(states, "Carry", lambda conv=None, recurrent=None: right())


FAULTS = [
    ("llava", one_further),
    ("llava", sees_siblings),
    ("llava", sees_all_a_little),
    ("llava", sees_the_first_prompt_a_little),
    ("gemma3", no_picture_mask),
    ("gemma3", no_window),
    pytest.param("qwen3_5", stale_state, marks=needs_states),
    pytest.param("qwen3_5", no_state, marks=needs_states),
]


@pytest.mark.parametrize(("kind", "fault"), FAULTS)
def test_it_is_found_out(kind, fault, config_of, monkeypatch):
    config = config_of(kind)
    processor = load_configured_processor(config)
    policy = build_policy(config, processor)
    prompts = load_split(config, config.data.train_files, processor).encode(range(4))
    sampling = Sampling(n=4, max_tokens=10, temperature=1.0)
    groups = generate(policy.model, processor, prompts, sampling, range(4))
    assert check_parity(policy, groups, config).holds
    fault(monkeypatch)
    assert not check_parity(policy, groups, config).holds
    assert all(parameter.grad is None for parameter in policy.model.parameters())


@pytest.mark.parametrize("leak", [sees_all_a_little, sees_the_first_prompt_a_little])
def test_a_leak_that_half_precision_hides_is_found_out(leak, config_of, monkeypatch):
    config = config_of("llava", "worker.actor.fsdp.mp_param_dtype=bf16")
    processor = load_configured_processor(config)
    policy = build_policy(config, processor)
    prompts = load_split(config, config.data.train_files, processor).encode(range(4))
    groups = generate(policy.model, processor, prompts, Sampling(n=4, max_tokens=10), range(4))
    assert check_parity(policy, groups, config).holds
    leak(monkeypatch)
    found = check_parity(policy, groups, config).failed
    assert found == "its layers let a response see another prompt or response"


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("llava", one_further),
        ("llava", sees_siblings),
        pytest.param("qwen3_5", stale_state, marks=needs_states),
    ],
)
def test_its_run_takes_every_rollout_alone_and_says_so_once(
    kind, fault, config_of, monkeypatch, capsys, tmp_path
):
    alone = f"trainer.save_checkpoint_path={tmp_path / 'alone'}"
    never = train(config_of(kind, "worker.actor.share_prefix=never", alone))
    capsys.readouterr()
    fault(monkeypatch)
    run = train(config_of(kind))
    said = capsys.readouterr().out
    assert said.count("every rollout runs alone") == 1
    for line, other in zip(run.read_metrics()[1:], never.read_metrics()[1:], strict=True):
        assert line["batch/tokens_saved"] == 0
        assert line["actor/grad_norm"] == pytest.approx(other["actor/grad_norm"], rel=1e-3)
        assert line["rollout/mismatch_max"] < 1e-4


def test_a_right_one_shares_and_is_checked_again_where_a_row_is_longer(config_of, monkeypatch, capsys):
    lengths, checked = [], []
    choose, check = loop.choose_sharing, loop.check_parity

    def choosing(s, groups):
        lengths.append(max(row.length for row in loop.rows_of(groups)))
        return choose(s, groups)

    def checking(s, groups):
        checked.append(len(lengths))
        return check(s, groups)

    monkeypatch.setattr(loop, "choose_sharing", choosing)
    monkeypatch.setattr(loop, "check_parity", checking)
    run = train(config_of("llava", "worker.actor.share_prefix=always", "trainer.max_steps=4"))
    assert all(line["batch/tokens_saved"] > 0.5 for line in run.read_metrics()[1:])
    records = [i + 1 for i, n in enumerate(lengths) if n > max(lengths[:i], default=0)]
    assert checked == records
    assert len(records) > 1, "no row became longer"
    assert capsys.readouterr().out.count("prompts may be computed once per group") == 1
