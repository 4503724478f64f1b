"""Samples of every family: those that its own `generate` gives, and that the trainer's forward finds."""

from dataclasses import replace

import pytest
import torch
from families.questions import QUESTIONS, question
from families.tiny import each_family

from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.packing import ForwardOptions, pack
from gmpo_vl.models.processing import encode_prompt
from gmpo_vl.rollout.hf import generate
from gmpo_vl.types import Sampling


@each_family()
def test_greedy_answers_are_those_of_the_models_own_generate(model, processor):
    prompts = [encode_prompt(example, processor) for example in QUESTIONS]
    greedy = Sampling(n=2, max_tokens=12, temperature=0.0)
    for group in generate(model, processor, prompts, greedy):
        ids_1P = group.prompt.ids_P[None]
        with torch.no_grad():
            whole = model.generate(
                input_ids=ids_1P,
                attention_mask=torch.ones_like(ids_1P),
                **processor.family.public_inputs(model, group.prompt, 0),
                do_sample=False,
                max_new_tokens=12,
                suppress_tokens=list(banned_ids(model.config)),
            )
        expected = whole[0, ids_1P.shape[1] :].tolist()
        assert [response.ids_T.tolist() for response in group.responses] == [expected] * 2


@each_family()
def test_samples_have_the_trainers_log_probs(model, processor):
    prompts = [encode_prompt(example, processor) for example in (*QUESTIONS, QUESTIONS[0])]
    groups = generate(model, processor, prompts, Sampling(n=4, max_tokens=20, temperature=0.9), [0, 0, 0, 1])
    rows = [(group.prompt, response) for group in groups for response in group.responses]
    packed = pack([(p, r.ids_T) for p, r in rows], processor.family, torch.device("cpu"))
    with torch.no_grad():
        options = ForwardOptions("public")
        of_trainer = response_log_probs(model, packed, 0.9, banned_ids(model.config), options=options)[0]
    for (_, response), log_probs_T in zip(rows, of_trainer):
        gaps = (log_probs_T[: len(response.ids_T)] - response.rollout_log_probs_T).abs()
        assert gaps.max() <= 1e-4
    assert len({tuple(response.ids_T.tolist()) for _, response in rows}) == len(rows)


@pytest.mark.parametrize("name", ["internvl"])
def test_more_image_tokens_than_features_are_told_as_a_fault_of_the_files(model, processor):
    prompt = encode_prompt(question((100, 70)), processor)
    more = replace(prompt, ids_P=torch.cat([prompt.ids_P, torch.tensor([processor.image_token_id])]))
    with pytest.raises(ValueError, match=r"refuses its pictures: .* are config\.json, .*of these weights"):
        generate(model, processor, [more], Sampling(n=1, max_tokens=2))
