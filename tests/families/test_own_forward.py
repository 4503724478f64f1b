"""The trainer's log-probs are those of the family's own forward, with gradients to all of the model."""

import re
from dataclasses import replace

import pytest
import torch
from families.questions import QUESTIONS, noise, pictures_of, png, question
from families.tiny import each_family

from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.families import own
from gmpo_vl.models.families.own import OwnFamily
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.loading import banned_ids, copy_without_weights, load_model
from gmpo_vl.models.packing import ForwardOptions, pack
from gmpo_vl.models.processing import encode_prompt, load_processor

_VIT = r"vision|visual"

pytestmark = pytest.mark.filterwarnings("ignore:prompts are not shared")


def answers(prompts):
    """Two answers to each prompt, of several lengths; (prompt, ids) rows."""
    generator = torch.Generator().manual_seed(0)
    lengths = (1, 9, 5, 2, 7, 3)
    return [
        (prompts[k // 2], torch.randint(0, 250, (n,), generator=generator)) for k, n in enumerate(lengths)
    ]


def log_probs(model, processor, rows, temperature=1.0):
    packed = pack(rows, processor.family, torch.device("cpu"))
    banned, options = banned_ids(model.config), ForwardOptions("public")
    return response_log_probs(model, packed, temperature, banned, options=options)[0]


def by_transformers(model, processor, example, prompt, ids_T, temperature=1.0):
    """Of transformers' own processor and forward, the whole row at once."""
    whole, pictures = processor.family.processor, pictures_of(example)
    inputs = dict(
        whole(text=[processor.chat(example, None).text], images=pictures or None, return_tensors="pt")
    )
    # A beginning twice, where the template wrote one.
    extra = inputs["input_ids"].shape[1] - len(prompt.ids_P)
    names = [name for name, value in inputs.items() if value.shape == inputs["input_ids"].shape]
    for name in names:
        inputs[name] = torch.nn.functional.pad(inputs[name][:, extra:], (0, len(ids_T)))
    inputs["input_ids"] = torch.cat([prompt.ids_P, ids_T])[None]
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    logits_TV = model(**inputs).logits[0, -len(ids_T) - 1 : -1].float() / temperature
    logits_TV[:, list(banned_ids(model.config))] = -torch.inf
    return logits_TV.log_softmax(-1).gather(1, ids_T[:, None])[:, 0]


@each_family()
def test_log_probs_are_those_of_the_models_own_forward(model, processor):
    rows = answers([encode_prompt(example, processor) for example in QUESTIONS])
    with torch.no_grad():
        log_probs_BT = log_probs(model, processor, rows, 0.7)
        for b, (prompt, ids_T) in enumerate(rows):
            expected_T = by_transformers(model, processor, prompt.example, prompt, ids_T, 0.7)
            assert torch.allclose(log_probs_BT[b, : len(ids_T)], expected_T, atol=2e-5), (
                prompt.example.problem
            )


@each_family()
def test_gradients_reach_pictures_and_words(model, processor):
    rows = answers([encode_prompt(example, processor) for example in QUESTIONS])
    log_probs(model.train(), processor, rows).sum().backward()
    model.eval()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # No gradient: the last layers of a ViT whose features are taken before its end, and its unused head.
    assert len(without) < len(list(model.parameters())) / 3, without
    for part in (_VIT, r"\.layers\.0\..*(v_proj|in_proj_qkv)", "embed_tokens"):
        assert [n for n, _ in model.named_parameters() if re.search(part, n) and n not in without], part


@each_family()
def test_another_picture_gives_other_log_probs(model, processor):
    example = question((100, 70))
    other = replace(example, images=(png(noise(100, 70, seed=5)),))
    first, second = encode_prompt(example, processor), encode_prompt(other, processor)
    ids_T = torch.arange(20, 26)
    with torch.no_grad():
        a, b, c = (log_probs(model, processor, [(p, ids_T)]) for p in (first, second, first))
    assert (a - b).abs().max() > 1e-4
    assert torch.equal(a, c)


@each_family()
def test_a_prompt_without_pictures_is_not_disturbed_by_one_before_it(model, processor):
    text, picture = encode_prompt(QUESTIONS[0], processor), encode_prompt(QUESTIONS[1], processor)
    ids_T = torch.arange(20, 26)
    with torch.no_grad():
        alone = log_probs(model, processor, [(text, ids_T)])
        after = log_probs(model, processor, [(picture, ids_T), (text, ids_T)])
    assert torch.allclose(alone[0], after[1], atol=1e-6)


@each_family()
def test_a_saved_model_is_the_same_model(model, processor, folder, tmp_path):
    save_pretrained(model, tmp_path)
    copy_without_weights(folder, tmp_path)
    again, processor_again = load_model(tmp_path).eval(), load_processor(tmp_path)
    rows = answers([encode_prompt(example, processor) for example in QUESTIONS])
    rows_again = answers([encode_prompt(example, processor_again) for example in QUESTIONS])
    assert all(a[0].ids_P.equal(b[0].ids_P) for a, b in zip(rows, rows_again))
    with torch.no_grad():
        assert torch.equal(log_probs(model, processor, rows), log_probs(again, processor_again, rows_again))


@pytest.mark.parametrize(("kept", "processed"), [(own._KEPT_BYTES, 2), (0, 6)], ids=["kept", "no room"])
@pytest.mark.parametrize("name", ["llava"])
def test_pictures_are_processed_once_for_all_passes_that_memory_allows(
    kept, processed, model, processor, monkeypatch
):
    monkeypatch.setattr(own, "_KEPT_BYTES", kept)
    family, calls = replace(processor.family, _looked_at={}), []
    process = OwnFamily._process
    monkeypatch.setattr(OwnFamily, "_process", lambda self, *of: calls.append(of) or process(self, *of))
    rows = answers([encode_prompt(example, processor) for example in QUESTIONS])
    calls.clear()
    with torch.no_grad():
        first, *others = (log_probs(model, replace(processor, family=family), rows) for _ in range(3))
    assert len(calls) == processed
    assert len(family._looked_at) == (2 if kept else 1)
    assert all(other.equal(first) for other in others)
