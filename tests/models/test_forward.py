"""`response_log_probs` gives what a plain transformers forward of one rollout at a time gives, gradients included."""

import pytest
import torch

from gmpo_vl.batching.packing import pack
from gmpo_vl.data.diagrams import make_examples
from gmpo_vl.data.types import Example
from gmpo_vl.models import compat, forward
from gmpo_vl.models.loading import banned_ids, load_model
from gmpo_vl.models.patches import make_patches
from gmpo_vl.models.processing import encode_prompt, load_processor


def one_at_a_time(model, prompt, ids_T, temperature, banned, image):
    """transformers' own forward on `[prompt | response]`, everything through the model's public inputs."""
    ids_1L = torch.cat([prompt.ids_P, ids_T])[None]
    inputs = {"input_ids": ids_1L, "attention_mask": torch.ones_like(ids_1L)}
    if image is not None:
        inputs["position_ids"] = compat.rope_index(model, ids_1L, prompt.image_grid_thw)
        if prompt.images:
            inputs["pixel_values"] = torch.cat([make_patches(x, image) for x in prompt.images]).to(
                model.dtype
            )
            inputs["image_grid_thw"] = prompt.image_grid_thw
    logits_LV = model(**inputs).logits[0]
    logits_TV = logits_LV[len(prompt.ids_P) - 1 : -1].clone()
    logits_TV[:, list(banned)] = -torch.inf
    return torch.log_softmax(logits_TV / temperature, -1).gather(-1, ids_T[:, None]).squeeze(-1)


@pytest.fixture
def all_float64(monkeypatch):
    """transformers computes norms and the ViT's rotation in float32 whatever the model's dtype: lifted, to compare."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self.double())
    original = torch.Tensor.to

    def to(self, *args, **kwargs):
        args = tuple(torch.float64 if a is torch.float32 and self.is_floating_point() else a for a in args)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)


def rows_with(prompts, lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (prompt, torch.randint(20, 200, (length,), generator=generator))
        for prompt, group in zip(prompts, lengths)
        for length in group
    ]


@pytest.mark.parametrize("share_prefix", [True, False], ids=["shared", "plain"])
@pytest.mark.parametrize("kind", ["images", "mixed", "text"])
def test_log_probs_and_gradients_equal_transformers_own_forward(
    kind, share_prefix, vl_folder, text_folder, all_float64
):
    folder = text_folder if kind == "text" else vl_folder
    processor = load_processor(folder)
    model = load_model(folder, torch.float64)
    examples = make_examples("train", 2, seed=0)
    if kind == "mixed":
        two = Example("two", "<image>and <image>", "1", (examples[0].images[0], examples[1].images[0]))
        examples = [examples[0], Example("text", "How many?", "1"), two]
    if kind == "text":
        examples = [Example("a", "How many?", "1"), Example("b", "Find the area of it.", "2")]
    prompts = [encode_prompt(e, processor) for e in examples]
    rows = rows_with(prompts, [[7, 1, 4], [3, 9], [5, 5]])
    banned, temperature = banned_ids(model.config), 0.7

    packed = pack(rows, processor.image, torch.device("cpu"))
    ours_BT, entropy_BT = forward.response_log_probs(
        model, packed, temperature, banned, with_entropy=True, share_prefix=share_prefix
    )
    weights_BT = torch.randn(ours_BT.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (ours_BT * weights_BT).sum().backward()
    ours_grad = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    theirs = [one_at_a_time(model, p, ids, temperature, banned, processor.image) for p, ids in rows]
    sum((t * w[: len(t)]).sum() for t, w in zip(theirs, weights_BT)).backward()

    for ours_T, t in zip(ours_BT, theirs):
        torch.testing.assert_close(ours_T[: len(t)], t, rtol=0, atol=1e-12)
        assert (ours_T[len(t) :] == 0).all()
    assert entropy_BT is not None
    assert (entropy_BT[packed.mask_BT] > 0).all()
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert name not in ours_grad, f"{name} has a gradient only in ours"
            continue
        norm = parameter.grad.norm()
        assert (ours_grad[name] - parameter.grad).norm() <= 1e-10 * norm + 1e-15, name


def test_a_head_in_chunks_gives_the_same(vl_folder, monkeypatch):
    processor, model = load_processor(vl_folder), load_model(vl_folder, torch.float64)
    prompts = [encode_prompt(e, processor) for e in make_examples("train", 1, seed=0)]
    packed = pack(rows_with(prompts, [[9, 6]]), processor.image, torch.device("cpu"))

    def run():
        model.zero_grad()
        log_probs, entropy = forward.response_log_probs(model, packed, 1.0, (3, 4), with_entropy=True)
        (log_probs.sum() + entropy.sum()).backward()
        return log_probs.detach(), entropy.detach(), model.lm_head.weight.grad.clone()

    whole = run()
    monkeypatch.setattr(forward, "HEAD_CHUNK", 4)
    for a, b in zip(whole, run()):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_a_banned_token_has_no_probability(vl_folder):
    processor, model = load_processor(vl_folder), load_model(vl_folder)
    prompt = encode_prompt(make_examples("train", 1, seed=0)[0], processor)
    banned = banned_ids(model.config)
    assert processor.image_token_id in banned
    packed = pack([(prompt, torch.tensor([processor.image_token_id]))], processor.image, torch.device("cpu"))
    log_probs_BT, _ = forward.response_log_probs(model, packed, 1.0, banned)
    assert log_probs_BT.item() == -torch.inf
