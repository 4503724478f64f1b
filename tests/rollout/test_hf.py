"""Rollouts: right log-probs, right positions, own seed per sample, no vision token ever."""

import pytest
import torch
from tiny_families import save_tiny_text

from gmpo_vl.engines.parity import TOLERANCE, gaps_between
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.loading import banned_ids, eos_ids, load_model
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.models.tiny import save_tiny
from gmpo_vl.rollout import batched
from gmpo_vl.rollout.hf import GenerateOptions, generate
from gmpo_vl.rollout.sampling import draw
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example, Sampling


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = save_tiny(tmp_path_factory.mktemp("tiny"))
    processor, model = load_processor(folder), load_model(folder)
    examples = [*make_examples("train", 3, seed=0), Example("text", "How many of them?", "3")]
    return model, processor, [encode_prompt(e, processor) for e in examples]


def test_log_probs_are_the_trainers(tiny):
    model, processor, prompts = tiny
    groups = generate(model, processor, prompts, Sampling(n=3, max_tokens=12, temperature=0.8))
    rows = [(g.prompt, r.ids_T) for g in groups for r in g.responses]
    packed = pack(rows, processor.family, torch.device("cpu"))
    with torch.no_grad():
        trainer_BT, _ = response_log_probs(model, packed, 0.8, banned_ids(model.config))
    for trainer_T, response in zip(trainer_BT, [r for g in groups for r in g.responses]):
        torch.testing.assert_close(
            trainer_T[: len(response.ids_T)], response.rollout_log_probs_T, rtol=0, atol=1e-5
        )


def test_what_a_sample_draws_depends_on_nothing_but_its_seed(tiny):
    model, processor, prompts = tiny
    sampling = Sampling(n=3, max_tokens=12)
    together = generate(model, processor, prompts, sampling, [4] * len(prompts))
    alone = [generate(model, processor, [p], sampling, [4])[0] for p in prompts]
    more = generate(model, processor, prompts, Sampling(n=5, max_tokens=12), [4] * len(prompts))
    for a, b, c in zip(together, alone, more):
        for ra, rb, rc in zip(a.responses, b.responses, c.responses):
            assert ra.ids_T.tolist() == rb.ids_T.tolist() == rc.ids_T.tolist()
            assert ra.seed == rb.seed == rc.seed
    later = generate(model, processor, prompts, sampling, [5] * len(prompts))
    assert [r.seed for r in later[0].responses] != [r.seed for r in together[0].responses]


def test_a_policy_that_wants_image_tokens_never_gets_them(tiny):
    model, processor, prompts = tiny
    head = model.get_output_embeddings()
    bias = torch.nn.Linear(head.in_features, head.out_features)
    bias.weight.data = head.weight.data.clone()
    bias.bias.data.zero_()
    bias.bias.data[processor.image_token_id] = 50.0
    model.lm_head = bias
    try:
        groups = generate(model, processor, prompts, Sampling(n=4, max_tokens=8))
    finally:
        model.lm_head = head
    sampled = torch.cat([r.ids_T for g in groups for r in g.responses])
    assert not torch.isin(sampled, torch.tensor(banned_ids(model.config))).any()


def test_a_response_ends_with_its_end_token_or_is_marked_unfinished(tiny):
    model, processor, prompts = tiny
    ends = eos_ids(model.generation_config, processor.tokenizer)
    groups = generate(model, processor, prompts, Sampling(n=16, max_tokens=30))
    responses = [r for g in groups for r in g.responses]
    assert {r.finished for r in responses} == {True, False}
    for response in responses:
        *before, last = response.ids_T.tolist()
        assert not set(before) & set(ends)
        assert response.finished == (last in ends)
        assert response.finished or len(response.ids_T) == 30


def test_chunks_change_nothing_but_memory(tiny):
    model, processor, prompts = tiny
    sampling = Sampling(n=2, max_tokens=6)
    wide = generate(model, processor, prompts, sampling)
    narrow = generate(model, processor, prompts, sampling, options=GenerateOptions(1))
    assert [[r.text for r in g.responses] for g in wide] == [[r.text for r in g.responses] for g in narrow]


def test_pictures_and_prompts_in_parts_change_nothing(tiny, monkeypatch):
    """Prompts of several lengths, one prompt and one picture at a time: the same tokens, log-probs up to
    rounding."""
    model, processor, prompts = tiny
    sampling = Sampling(n=2, max_tokens=8)
    whole = generate(model, processor, prompts, sampling)
    monkeypatch.setattr("gmpo_vl.models.features.PATCHES", 1)
    calls = []
    real = batched.run_language_model

    def counted(model, embeddings_BPH, *args, **kwargs):
        calls.append(tuple(embeddings_BPH.shape[:2]))
        return real(model, embeddings_BPH, *args, **kwargs)

    monkeypatch.setattr(batched, "run_language_model", counted)
    for tokens, together in ((1, 1), (2 * max(len(p.ids_P) for p in prompts), 2)):
        monkeypatch.setattr(batched, "PREFILLED", tokens)
        calls.clear()
        parts = generate(model, processor, prompts, sampling)
        assert max(rows for rows, length in calls if length > 1) == together
        assert len([1 for _, length in calls if length > 1]) == len(prompts) // together
        for one, two in zip([r for g in whole for r in g.responses], [r for g in parts for r in g.responses]):
            assert one.ids_T.tolist() == two.ids_T.tolist()
            torch.testing.assert_close(one.rollout_log_probs_T, two.rollout_log_probs_T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("text", [False, True], ids=["vl", "text"])
def test_under_autocast_the_cache_is_in_half_precision_and_log_probs_are_the_trainers(
    text, tiny, tmp_path, monkeypatch
):
    model, processor, prompts = tiny
    if text:
        folder = save_tiny_text(tmp_path / "text")
        model, processor = load_model(folder), load_processor(folder)
        prompts = [encode_prompt(Example(str(k), "How many? " * k, "3"), processor) for k in (1, 5)]
    dtypes = set()
    real = batched.BatchedRows.feed

    def seen(rows, token_R):
        real(rows, token_R)
        dtypes.update(states.dtype for layer in rows._cache.layers for states in (layer.keys, layer.values))

    monkeypatch.setattr(batched.BatchedRows, "feed", seen)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        groups = generate(model, processor, prompts, Sampling(n=3, max_tokens=12))
        rows = [(g.prompt, r.ids_T) for g in groups for r in g.responses]
        packed = pack(rows, processor.family, torch.device("cpu"))
        trainer_BT, _ = response_log_probs(model, packed, 1.0, banned_ids(model.config))
    assert dtypes == {torch.bfloat16}
    responses = [r for g in groups for r in g.responses]
    of_trainer = torch.cat([x[: len(r.ids_T)] for x, r in zip(trainer_BT, responses)])
    of_sampler = torch.cat([r.rollout_log_probs_T for r in responses])
    assert gaps_between(of_sampler, of_trainer).within(TOLERANCE[torch.bfloat16])


def test_draw_follows_the_distribution_and_its_truncations():
    log_probs = torch.log(torch.tensor([0.5, 0.0, 0.3, 0.2])).expand(20_000, -1)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def shares(**kwargs):
        tokens = draw(log_probs, uniform, Sampling(n=1, max_tokens=1, **kwargs))
        return (torch.bincount(tokens, minlength=4) / len(tokens)).tolist()

    assert shares() == pytest.approx([0.5, 0, 0.3, 0.2], abs=0.01)
    assert shares(top_k=2) == pytest.approx([0.625, 0, 0.375, 0], abs=0.01)
    assert shares(top_p=0.6) == pytest.approx([0.625, 0, 0.375, 0], abs=0.01)
    assert shares(top_p=0.45) == pytest.approx([1, 0, 0, 0], abs=0.01)


def test_the_largest_uniform_never_draws_a_token_of_probability_zero():
    log_probs = torch.log(torch.tensor([[0.25, 0.75, 0.0]]))
    almost_one = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert draw(log_probs, almost_one, Sampling(n=1, max_tokens=1)).item() == 1
