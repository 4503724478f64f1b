"""The yardstick: transformers' own forward on one `[prompt | response]` at a time, through the model's public
inputs."""

import torch

from gmpo_vl.models import compat
from gmpo_vl.models.families.qwen import make_patches
from gmpo_vl.models.forward import ForwardOptions, response_log_probs, unwrap
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import encode_prompt
from gmpo_vl.models.shared import sharing_obstacle
from gmpo_vl.types import Example

CPU = torch.device("cpu")


def rope_index(model, ids_BP, image_grid_thw):
    """transformers' own mRoPE positions (3, B, P) of unpadded prompts."""
    kwargs = {"image_grid_thw": image_grid_thw if len(image_grid_thw) else None}
    if compat.TRANSFORMERS_5:
        kwargs["mm_token_type_ids"] = (ids_BP == model.config.image_token_id).int()
    return model.model.get_rope_index(ids_BP, **kwargs)[0]


def one_at_a_time(model, prompt, ids_T, temperature, banned, image):
    """Log-probs (T,) of a response."""
    ids_1L = torch.cat([prompt.ids_P, ids_T])[None]
    inputs = {"input_ids": ids_1L, "attention_mask": torch.ones_like(ids_1L), "use_cache": False}
    if image is not None:
        inputs["position_ids"] = rope_index(unwrap(model), ids_1L, prompt.image_grid_thw)
        if prompt.images:
            patches = torch.cat([make_patches(x, image) for x in prompt.images])
            inputs["pixel_values"] = patches.to(unwrap(model).dtype)
            inputs["image_grid_thw"] = prompt.image_grid_thw
    logits_LV = model(**inputs).logits[0]
    logits_TV = logits_LV[len(prompt.ids_P) - 1 : -1].clone()
    logits_TV[:, list(banned)] = -torch.inf
    return torch.log_softmax(logits_TV / temperature, -1).gather(-1, ids_T[:, None]).squeeze(-1)


def rows_with(prompts, lengths, seed=0):
    """(prompt, response) rows; `lengths` of the responses of each prompt."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (prompt, torch.randint(20, 200, (length,), generator=generator))
        for prompt, group in zip(prompts, lengths)
        for length in group
    ]


def prompts_of(kind, processor, examples):
    """images: two prompts with a picture each; mixed: one picture, none, two; text: none at all."""
    if kind == "mixed":
        two = Example("two", "<image>and <image>", "1", (examples[0].images[0], examples[1].images[0]))
        examples = [examples[0], Example("text", "How many?", "1"), two]
    if kind == "text":
        examples = [Example("a", "How many?", "1"), Example("b", "Find the area of it.", "2")]
    return [encode_prompt(e, processor) for e in examples]


def assert_equals_one_at_a_time(model, processor, rows, way, temperature=0.7):
    """Log-probs within 1e-12, every gradient within 1e-10 of its norm. Needs float64 (`all_float64`).

    way: of a model that can go it; the others go one rollout at a time.
    """
    inner = unwrap(model)
    way = way if sharing_obstacle(inner.config) is None else "public"
    banned = banned_ids(inner.config)
    packed = pack(rows, processor.family, CPU)
    ours_BT, entropy_BT = response_log_probs(
        model, packed, temperature, banned, with_entropy=True, options=ForwardOptions(way)
    )
    weights_BT = torch.randn(ours_BT.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model.zero_grad()
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
        gap = (ours_grad[name] - parameter.grad).norm()
        assert gap <= 1e-10 * norm + 1e-15, f"{name}: {gap:.1e} of {norm:.1e}"
    return ours_grad
