"""Where no key says what a forward may hold, the memory estimate does."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, LlamaConfig

from gmpo_vl.batching.planning import Limits
from gmpo_vl.config import load_config
from gmpo_vl.engines.local.engine import LocalEngine, train
from gmpo_vl.preflight.plan import dry_run
from gmpo_vl.setup import load_configured_processor, load_split
from gmpo_vl.sizing import budget, fitted_constants, parameters
from gmpo_vl.sizing.estimate import PromptLengths, estimate_easyr1, estimate_local, sampling_peak
from gmpo_vl.sizing.limits import PassLimits
from gmpo_vl.sizing.parameters import model_size, size_of


def test_what_fits_is_the_most_that_the_estimate_allows(unsaid, tiny_folder):
    config, longest = unsaid("data.max_response_length=500"), PromptLengths(900)
    size = model_size(tiny_folder)

    def needs(tokens):
        limits = Limits(max_tokens=tokens)
        found = estimate_local(config, size, longest, PassLimits(limits, limits), torch.cuda.is_available())
        return max(found.of_phase("log_probs"), found.of_phase("update"))

    for memory in (needs(2048), needs(4096) + 1):
        tokens = budget.tokens_that_fit(config, size, longest, memory)
        assert needs(tokens) <= memory
        assert needs(tokens + budget.STEP) > memory
    assert budget.tokens_that_fit(config, size, longest, 0.0) == 1400, "a row cannot be made smaller"
    assert budget.tokens_that_fit(config, size, longest, 1e15) == budget.MOST


def test_answers_of_every_length_fit_and_short_ones_leave_room_for_pictures(unsaid, tiny_folder):
    lengths = [
        "data.max_response_length=500",
        "data.rollout_batch_size=32",
        "worker.actor.global_batch_size=32",
    ]
    config, size = unsaid(*lengths, "worker.rollout.n=4"), model_size(tiny_folder)
    longest = PromptLengths(100, ((1, 16, 16),))

    def needs(length, limits, phase="update"):
        answers = replace(config, data=replace(config.data, max_response_length=length))
        return estimate_local(answers, size, longest, PassLimits(limits, limits), cuda=True).of_phase(phase)

    tokens, rollouts = Limits(max_tokens=4096), Limits(max_rows=2)
    for phase in ("log_probs", "update"):
        assert needs(500, tokens, phase) >= max(needs(length, tokens, phase) for length in (250, 31, 1))
    pictures = estimate_local(config, size, longest, PassLimits(tokens, tokens), cuda=True).update[1]
    assert pictures.name == "pictures"
    assert int(pictures.assumption.split()[0].replace(",", "")) > 4 * 256, (
        "one group of the longest answers fits"
    )
    assert needs(500, rollouts) > needs(250, rollouts), "of a number of rollouts the longest take most"


def test_the_most_pictures_may_be_in_another_prompt_than_the_most_tokens(unsaid, tiny_folder, monkeypatch):
    config = unsaid()
    processor = load_configured_processor(config)
    prompts = load_split(config, config.data.train_files, processor)
    images = [int((p.ids_P == processor.image_token_id).sum()) for p in prompts.encode(range(len(prompts)))]
    assert prompts.picture_lengths == images
    seen = []
    monkeypatch.setattr(budget, "fit_to_memory", lambda config, size, longest: seen.append(longest))
    prompts.lengths[0], prompts.picture_lengths[0] = 9000, 0
    budget.with_fitting_tokens(config, prompts)
    assert seen == [PromptLengths(9000, ((1, max(images) * 4, 1),))]


def test_later_turns_of_a_game_may_show_pictures_where_the_first_shows_none(unsaid, monkeypatch):
    games = ("environment.name=gridworld", "worker.reward.reward_function=null")
    config = unsaid(*games, "data.max_prompt_length=300")
    processor = load_configured_processor(config)
    prompts = load_split(config, config.data.train_files, processor)
    prompts.picture_lengths[:] = [0] * len(prompts)
    seen = []
    monkeypatch.setattr(budget, "fit_to_memory", lambda config, size, longest: seen.append(longest))
    budget.with_fitting_tokens(config, prompts)
    assert seen == [PromptLengths(300, ((1, 300 * 4, 1),))]


def test_every_turn_of_a_game_is_a_row_with_a_prompt_of_its_own(unsaid, tiny_folder):
    games = ("environment.name=gridworld", "worker.reward.reward_function=null", "worker.rollout.n=4")
    size, longest = model_size(tiny_folder), PromptLengths(100, ((1, 4, 4),))

    def told(limits: Limits, *more: str) -> list[int]:
        """Tokens of the largest update's forward; prompts whose pictures are held while sampling."""
        found = estimate_local(unsaid(*more), size, longest, PassLimits(limits, limits), cuda=False)
        parts = [next(part for part in found.update if part.name == "activations")]
        parts += [part for part in found.generate if part.name == "prompts' KV cache"]
        return [int(part.assumption.split()[0].replace(",", "")) for part in parts]

    all_rows, some, few = Limits(), Limits(max_rows=8), Limits(max_tokens=2000)
    answer = 10 - 1  # tokens that are fed
    assert told(all_rows)[0] == 2 * (100 + 4 * answer)
    for turns in (1, 50):
        of_turns = (*games, f"environment.max_turns={turns}")
        assert told(all_rows, *of_turns) == [2 * 4 * turns * (100 + answer), 4 * 4]
        assert told(some, *of_turns)[0] == 8 * (100 + answer)
        assert told(few, *of_turns)[0] == min(2000 // (100 + 10), 2 * 4 * turns) * (100 + answer)


@pytest.mark.parametrize("of", ["_host_memory", "gpu_memory"])
def test_a_small_memory_splits_groups_and_trains_the_same(of, unsaid, tmp_path, monkeypatch, capfd):
    settings = ("trainer.max_steps=1", "trainer.val_before_train=false", "worker.rollout.n=12")
    whole = train(unsaid(*settings))
    assert "a forward holds" not in capfd.readouterr().out
    monkeypatch.setattr(budget, of, lambda: 1.0)
    split = train(unsaid(*settings, f"trainer.save_checkpoint_path={tmp_path / 'split'}"))
    [a], [b] = whole.read_metrics(), split.read_metrics()
    assert a["batch/split_groups"] == 0.0
    assert b["batch/split_groups"] > 0.0
    assert a["actor/grad_norm"] == pytest.approx(b["actor/grad_norm"], rel=1e-4)
    # A limit that the machine chose is no setting of the run's.
    worker = load_config(split.folder / "config.yaml").worker
    assert worker.actor.max_tokens_per_micro_batch is None
    assert worker.rollout.max_cached_tokens == 65_536
    told = capfd.readouterr().out
    assert ("a forward holds up to" in told and "one rollout alone takes" in told) == (of == "gpu_memory")


def test_a_key_that_says_it_is_honoured_and_the_plan_tells(unsaid, monkeypatch):
    assert f"up to {budget.MOST:,} tokens a forward" in dry_run(unsaid())
    monkeypatch.setattr(budget, "_host_memory", lambda: pytest.fail("nobody needs to know"))
    assert "up to 300 tokens a forward" in dry_run(unsaid("worker.actor.max_tokens_per_micro_batch=300"))
    rollouts = unsaid(
        "worker.actor.micro_batch_size_per_device_for_update=3", "worker.actor.dynamic_batching=false"
    )
    monkeypatch.setattr(budget, "_host_memory", lambda: 1e15)
    assert "up to 3 rollouts a forward" in dry_run(rollouts)


@pytest.mark.parametrize("gib", [1e-6, 1e3])
def test_the_second_step_on_a_gpu_tells_what_it_took(gib, unsaid, monkeypatch, capfd):
    real = LocalEngine.update

    def on_a_gpu(self, *args):
        return {**real(self, *args), "memory/device_peak": gib}

    monkeypatch.setattr(LocalEngine, "update", on_a_gpu)
    monkeypatch.setattr(budget, "gpu_memory", lambda: 80.0 * GB)
    train(unsaid("trainer.max_steps=3", "trainer.val_before_train=false"))
    [line] = [line for line in capfd.readouterr().out.splitlines() if line.startswith("memory: ")]
    # Where far more was taken than was estimated, nothing larger is promised.
    expected = "of up to 65,536 tokens would fit" if gib < 1 else "one rollout at a time at most would fit"
    assert expected in line
    assert "74.5 GiB at its highest point" in line


GB = 10**9
ONE_ROW = PassLimits(Limits(max_rows=1), Limits(max_rows=1))


@pytest.fixture(scope="module")
def three_b():
    """Qwen2.5-VL-3B, by its published configuration."""
    from transformers import Qwen2_5_VLConfig

    text = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    }
    vision = {"depth": 32, "hidden_size": 1280, "out_hidden_size": 2048, "intermediate_size": 3420}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    return size_of(config, "here")


@pytest.fixture
def three_b_run(unsaid):
    """As configs/qwen2_5_vl_3b_geo3k_gmpo_1gpu.yaml, without the keys about memory."""

    def make(*more):
        return unsaid(
            "data.max_prompt_length=2048",
            "data.max_response_length=2048",
            "data.rollout_batch_size=128",
            "worker.actor.global_batch_size=32",
            "worker.rollout.n=5",
            "worker.actor.fsdp.mp_param_dtype=bf16",
            "worker.actor.model.enable_gradient_checkpointing=true",
            *more,
        )

    return make


GEOMETRY = PromptLengths(700, ((1, 1920, 1),))
EASYR1S = 4 * (2048 + 2048)


@pytest.mark.parametrize("engine", ["local", "easyr1"])
@pytest.mark.parametrize(
    ("memory", "longest"),
    [
        *((memory * GB, GEOMETRY) for memory in (64, 80, 85, 141)),
        (80 * GB, PromptLengths(2048)),
        (80 * GB, PromptLengths(300)),
    ],
    ids=str,
)
def test_a_gpu_gets_easyr1s_budget_or_what_the_estimate_proves(
    engine, memory, longest, three_b, three_b_run, monkeypatch
):
    monkeypatch.setattr(budget, "gpu_memory", lambda: float(memory))
    config = three_b_run(f"engine={engine}", "trainer.n_gpus_per_node=1", "trainer.nnodes=1")

    def needs(score: int, update: int) -> float:
        limits = PassLimits(Limits(max_tokens=score), Limits(max_tokens=update))
        if engine == "local":
            found = estimate_local(config, three_b, longest, limits, cuda=True)
        else:
            found = estimate_easyr1(config, three_b, longest, limits, free=0.0)
        return max(found.of_phase("log_probs"), found.of_phase("update"))

    usable, row = budget.USABLE_GPU * memory, longest.tokens + 2048
    found = budget.fit_to_memory(config, three_b, longest)
    tokens = found.config.worker.actor.max_tokens_per_micro_batch
    if needs(4 * EASYR1S, EASYR1S) <= usable:
        assert (tokens, found.reasons) == (None, ()), "EasyR1's own"
        return
    assert tokens is not None
    assert f"up to {tokens:,} tokens" in found.reasons[0]
    assert row <= tokens <= EASYR1S
    assert needs(tokens, tokens) <= usable or (tokens == row and "may not fit" in found.reasons[1])
    more = tokens + budget.STEP
    assert more > EASYR1S or needs(more, more) > usable, "the next step up does not fit"


def test_3b_on_80_gb(three_b, three_b_run, monkeypatch):
    """It got 2,948 tokens."""
    monkeypatch.setattr(budget, "gpu_memory", lambda: 80.0 * GB)
    found = budget.fit_to_memory(three_b_run(), three_b, GEOMETRY)
    assert found.config.worker.actor.max_tokens_per_micro_batch == 5120
    monkeypatch.setattr(budget, "gpu_memory", lambda: 141.0 * GB)
    found = budget.fit_to_memory(three_b_run(), three_b, GEOMETRY)
    assert found.config.worker.actor.max_tokens_per_micro_batch is None, "EasyR1's own, 16,384 in an update"


@pytest.mark.parametrize(
    ("response", "validation"),
    [(2048, "{}"), (2048, "{n: 1}"), (8, "{n: 1}"), (16384, "{}"), (300, "{n: 16}")],
)
@pytest.mark.parametrize("memory", [80 * GB, 85 * GB, 141 * GB])
def test_on_a_gpu_the_cache_is_as_large_as_memory_allows(
    response, validation, memory, three_b, three_b_run, monkeypatch
):
    monkeypatch.setattr(budget, "gpu_memory", lambda: float(memory))
    config = three_b_run(
        f"data.max_response_length={response}",
        f"worker.rollout.val_override_config={validation}",
        "worker.actor.max_tokens_per_micro_batch=4096",
    )
    group = 5 * (GEOMETRY.tokens + response)

    def peak(cached: int) -> float:
        rollout = replace(config.worker.rollout, max_cached_tokens=cached)
        run = replace(config, worker=replace(config.worker, rollout=rollout))
        return max(
            estimate_local(run, three_b, GEOMETRY, ONE_ROW, cuda=True).of_phase("generate"),
            sampling_peak(run, three_b, GEOMETRY),
        )

    rollout = budget.fit_to_memory(config, three_b, GEOMETRY).config.worker.rollout
    assert rollout.max_cached_tokens % group == 0
    assert peak(rollout.max_cached_tokens) <= budget.USABLE_GPU * memory
    whole_step = rollout.max_cached_tokens == 128 * group
    assert whole_step or peak(rollout.max_cached_tokens + group) > budget.USABLE_GPU * memory


def test_without_known_pictures_the_cache_leaves_them_room(three_b, three_b_run, monkeypatch):
    monkeypatch.setattr(budget, "gpu_memory", lambda: 141.0 * GB)
    monkeypatch.setattr(parameters, "vision_shape", lambda config: None)

    def cached(gpu: float) -> int:
        monkeypatch.setattr(budget, "gpu_memory", lambda: gpu)
        fitted = budget.fit_to_memory(three_b_run(), three_b, PromptLengths(700))
        return fitted.config.worker.rollout.max_cached_tokens

    assert cached(141.0 * GB) == 65_536
    assert cached(1.0) == 5 * (700 + 2048), "one group may always be sampled"


def test_the_cache_is_left_alone_where_it_is_written_on_a_cpu_and_for_easyr1(
    three_b, three_b_run, monkeypatch
):
    def cached(*more):
        return budget.fit_to_memory(
            three_b_run(*more), three_b, GEOMETRY
        ).config.worker.rollout.max_cached_tokens

    monkeypatch.setattr(budget, "gpu_memory", lambda: None)
    assert cached() == 65_536
    monkeypatch.setattr(budget, "gpu_memory", lambda: 141.0 * GB)
    assert cached() > 65_536
    assert cached("worker.rollout.max_cached_tokens=65536") == 65_536
    assert cached("engine=easyr1") == 65_536
    assert three_b_run().worker.rollout.max_cached_tokens == 65_536
    monkeypatch.setattr(budget, "gpu_memory", lambda: 1.0)
    assert cached() == 5 * (GEOMETRY.tokens + 2048), "one group may always be sampled"


def test_what_easyr1_or_the_model_decides_is_not_chosen(three_b, three_b_run, unsaid, monkeypatch):
    monkeypatch.setattr(budget, "gpu_memory", lambda: 1.0)
    own = budget.fit_to_memory(
        three_b_run("engine=easyr1", "worker.actor.loss_type=easyr1/default"), three_b, GEOMETRY
    )
    assert (own.config.worker.actor.max_tokens_per_micro_batch, own.reasons) == (None, ())
    text = three_b.config.get_text_config()
    monkeypatch.setattr(text, "attention_dropout", 0.1)  # such a model takes no packed rows
    alone = budget.fit_to_memory(three_b_run(), three_b, GEOMETRY)
    assert (alone.config.worker.actor.max_tokens_per_micro_batch, alone.reasons) == (None, ())


TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 200}
STRANGE = {
    "deepseek_v3": {"intermediate_size": 64, "moe_intermediate_size": 32, "n_routed_experts": 8},
    "mamba": {},
    "bamba": {"intermediate_size": 64},
    "falcon_h1": {"intermediate_size": 64, "num_key_value_heads": 2},
    "minimax": {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 16},
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_built_otherwise_is_not_known_and_nothing_is_chosen(kind, unsaid, monkeypatch):
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    size = size_of(AutoConfig.for_model(kind, **TEXT, **STRANGE[kind], **ids), "here")
    assert size.parameters > 0
    assert (size.text, size.rates, size.widths) == (None, None, None)
    assert kind in size.why
    for gpu in (None, 80.0 * GB):
        monkeypatch.setattr(budget, "gpu_memory", lambda gpu=gpu: gpu)
        found = budget.fit_to_memory(unsaid(), size, PromptLengths(100))
        assert found.config == unsaid()
        assert found.reasons == (f"memory is not estimated: {size.why}",)


def test_a_configuration_of_no_model_is_refused_in_words():
    with pytest.raises(ValueError, match=r"here: no model can be built from its config.json"):
        size_of(LlamaConfig(**TEXT | {"num_attention_heads": 4, "num_key_value_heads": 0}), "here")


@pytest.mark.parametrize("engine", ["local", "easyr1"])
def test_no_default_of_a_gpu_run_depends_on_a_fitted_constant(
    engine, three_b, three_b_run, tiny_folder, monkeypatch
):
    constants = [name for name in vars(fitted_constants) if name.isupper()]
    config = three_b_run(f"engine={engine}", "trainer.n_gpus_per_node=1", "trainer.nnodes=1")

    def fitted(memory: float | None) -> budget.Fitted:
        monkeypatch.setattr(budget, "gpu_memory", lambda: memory)
        return budget.fit_to_memory(config, three_b, GEOMETRY)

    def host_peak() -> float:
        return estimate_local(config, tiny, PromptLengths(1), ONE_ROW, cuda=False).of_phase("log_probs")

    tiny = model_size(tiny_folder)
    sizes, host = (24.0 * GB, 80.0 * GB, 141.0 * GB), host_peak()
    as_fitted = [fitted(memory) for memory in sizes]
    assert len(constants) == 3
    for name in constants:
        monkeypatch.setattr(fitted_constants, name, float("nan"))
    assert [fitted(memory) for memory in sizes] == as_fitted
    assert host > 0
    assert host_peak() != host_peak(), "NaN: a host's estimate does depend on them"
