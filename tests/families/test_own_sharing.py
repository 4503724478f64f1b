"""Prompts once per group, for every family that a packed row is right for; the others say why not."""

import pytest
import torch
from families.questions import QUESTIONS
from families.test_own_forward import answers
from families.tiny import each_family

from gmpo_vl.models.forward import ForwardOptions, response_log_probs
from gmpo_vl.models.geometry import language_model
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import encode_prompt
from gmpo_vl.models.shared import sharing_obstacle

# What stands in the way of the others.
REASONS = {"gemma4": "per_layer_inputs"}


@pytest.fixture
def rows(processor):
    return answers([encode_prompt(example, processor) for example in QUESTIONS])


def both_ways(model, processor, rows, way):
    """Log-probs, and the gradients of a sum in which no two tokens weigh alike."""
    packed = pack(rows, processor.family, torch.device("cpu"))
    model.zero_grad()
    options = ForwardOptions(way)
    log_probs_BT, entropy_BT = response_log_probs(
        model, packed, 0.7, banned_ids(model.config), with_entropy=True, options=options
    )
    weights_BT = torch.randn(log_probs_BT.shape, generator=torch.Generator().manual_seed(1))
    (log_probs_BT * weights_BT).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return log_probs_BT.detach(), entropy_BT.detach(), gradients


@each_family()
def test_it_shares_its_prompts_or_says_why_not(name, model, processor, rows):
    if name in REASONS:
        assert REASONS[name] in (sharing_obstacle(model.config) or "")
        return
    assert sharing_obstacle(model.config) is None
    own_BT, own_entropy_BT, own = both_ways(model, processor, rows, "public")
    shared_BT, shared_entropy_BT, shared = both_ways(model, processor, rows, "shared")
    torch.testing.assert_close(shared_BT, own_BT, rtol=0, atol=1e-4)
    torch.testing.assert_close(shared_entropy_BT, own_entropy_BT, rtol=0, atol=1e-4)
    assert shared.keys() == own.keys()
    largest = max(gradient.norm() for gradient in own.values())
    for name_of, gradient in own.items():
        gap = (shared[name_of] - gradient).norm()
        assert gap <= 1e-3 * gradient.norm() + 1e-6 * largest, name_of


@pytest.mark.parametrize("name", ["gemma3", "llava"])
def test_each_picture_goes_through_the_vit_once(model, processor, rows):
    seen = []
    visual = model.model.vision_tower
    hook = visual.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        packed = pack(rows, processor.family, torch.device("cpu"))
        response_log_probs(model, packed, 1.0, ())
    hook.remove()
    assert len(seen) == sum(bool(prompt.images) for prompt in packed.prompts) == 2


@pytest.mark.parametrize("name", ["gemma3"])
def test_a_picture_that_sees_itself_both_ways_says_so(model, processor):
    text, one = (encode_prompt(example, processor) for example in QUESTIONS[:2])
    with torch.no_grad():
        of_text, of_one = processor.family.decoder_inputs(model, [text, one])
    picture_P = of_one.picture_P
    for mask in of_one.masks.values():
        assert mask[picture_P][:, picture_P].all()
        assert not mask.triu(1)[~picture_P].any(), "words see nothing that comes after them"
    assert set(of_one.masks) == {"full_attention", "sliding_attention"}
    assert of_one.masks["full_attention"].tril().equal(torch.ones_like(of_one.masks["full_attention"]).tril())
    assert all(not mask.triu(1).any() for mask in of_text.masks.values())


@pytest.mark.parametrize("name", ["llava"])
def test_nothing_is_left_in_a_model_that_was_listened_to(model, processor, monkeypatch):
    prompt = encode_prompt(QUESTIONS[1], processor)
    decoder = language_model(model)
    with torch.no_grad():
        processor.family.decoder_inputs(model, [prompt])
    assert not decoder._forward_pre_hooks
    monkeypatch.setattr(model.model.vision_tower, "forward", lambda *_, **__: 1 / 0)
    with torch.no_grad(), pytest.raises(ZeroDivisionError):
        processor.family.decoder_inputs(model, [prompt])
    assert not decoder._forward_pre_hooks
