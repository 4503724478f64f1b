"""Log-probs of responses under a model: the one place where the trainer looks inside one.

`response_log_probs` is what every pass calls (old, reference, update). The picture goes through the ViT once per
distinct prompt, and the head runs on response positions only. A model whose inside is not known here goes through its
public inputs instead, one rollout at a time (public.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from gmpo_vl.batching.packing import Packed
from gmpo_vl.models.compat import image_features
from gmpo_vl.models.head import head_log_probs
from gmpo_vl.models.patches import make_patches
from gmpo_vl.models.public import public_log_probs
from gmpo_vl.models.routers import RouterCounter, watch_routers
from gmpo_vl.models.shared import ATTENTION, Layout, Segment, build_layout, sharing_obstacle
from gmpo_vl.types import ImageSettings, Prompt


def unwrap(model: torch.nn.Module) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper (adapters stay active), or the model itself."""
    get_base = getattr(model, "get_base_model", None)
    return get_base() if get_base is not None else model  # type: ignore[return-value]


def language_model(model: PreTrainedModel) -> Any:
    """The decoder stack: embeddings in, final hidden states out."""
    inner: Any = model.model
    return inner.language_model if hasattr(inner, "language_model") else inner


def prompt_features(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    image: ImageSettings | None,
    visit_vision: bool = False,
) -> list[torch.Tensor]:
    """ViT features (1 + D, image tokens, hidden) of each prompt, all pictures in one call; no tokens for text-only ones.

    The first go in place of the image tokens' embeddings, the other D (DeepStack, Qwen3-VL) are added to the hidden
    states behind the first D decoder layers. visit_vision: look at the smallest picture there is where there is none,
    and hand on nothing of it.
    """
    device = model.device
    pictures = [x for p in prompts for x in p.images]
    counts = [0 if image is None else _image_tokens(p, image) for p in prompts]
    if not pictures and not (visit_vision and image is not None):
        return [torch.empty(1, 0, 0, device=device) for _ in prompts]
    assert image is not None
    if not pictures:
        pictures = [torch.zeros((image.factor, image.factor, 3), dtype=torch.uint8)]
        grid_N3 = torch.tensor([image.grid(image.factor, image.factor)])
    else:
        grid_N3 = torch.cat([p.image_grid_thw for p in prompts])
    patches = torch.cat([make_patches(x.to(device), image) for x in pictures])
    features_DNH = image_features(model, patches, grid_N3.to(device))
    return list(features_DNH[:, : sum(counts)].split(counts, dim=1))


def _image_tokens(prompt: Prompt, image: ImageSettings) -> int:
    return int(prompt.image_grid_thw.prod(dim=1).sum()) // image.merge_size**2


def embed_prompt(model: PreTrainedModel, prompt: Prompt, features_DNH: torch.Tensor) -> torch.Tensor:
    """(P, hidden): token embeddings with the image tokens' places taken by the pictures' features."""
    ids_P = prompt.ids_P.to(model.device)
    embeddings_PH = model.get_input_embeddings()(ids_P)
    if not prompt.images:
        # The sum of nothing is 0. Where the ViT was only visited, this gives it its turn in the backward.
        return embeddings_PH + features_DNH.sum()
    is_image_P = ids_P == model.config.image_token_id
    return embeddings_PH.masked_scatter(is_image_P[:, None], features_DNH[0].to(embeddings_PH.dtype))


def deepstack(
    model: PreTrainedModel, ids_BL: torch.Tensor, features: Sequence[torch.Tensor]
) -> dict[str, Any]:
    """What the decoder wants to be told about DeepStack features; nothing for models without them.

    ids_BL: prompt ids at the prompts' places, any other id elsewhere. features: of those prompts, row by row.
    """
    with_images = [f for f in features if f.shape[1] > 0]
    if not with_images or len(with_images[0]) == 1:
        return {}
    return {
        "visual_pos_masks": ids_BL.to(model.device) == model.config.image_token_id,
        "deepstack_visual_embeds": list(torch.cat(with_images, dim=1)[1:]),
    }


def response_positions(prompt: Prompt, length: int) -> torch.Tensor:
    """int64 (3, length): positions of a response's tokens, going on after the prompt's largest."""
    start = int(prompt.position_ids_3P.max()) + 1
    return torch.arange(start, start + length).expand(3, -1)


def response_log_probs(
    model: torch.nn.Module,
    packed: Packed,
    temperature: float,
    banned_ids: Sequence[int],
    with_entropy: bool = False,
    share_prefix: bool = True,
    visit_vision: bool = False,
    routing: RouterCounter | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log pi(response token) at `temperature`, banned ids at -inf: float32 (B, T), 0 on padding.

    With `with_entropy` also the entropy of each position's distribution in nats, (B, T). Both carry gradients where
    the model's parameters do. share_prefix: every prompt once (shared.py), or once per response; the results agree up
    to rounding. visit_vision: run the ViT even where no prompt has a picture; sharded ranks must all make the same
    collective calls (wrapping.py). routing: counts what the routers of a mixture of experts chose (routers.py).
    """
    inner = unwrap(model)
    if sharing_obstacle(inner.config) is not None:
        log_probs_M, entropy_M = public_log_probs(
            inner, packed, temperature, banned_ids, with_entropy, routing
        )
    else:
        features = packed.features
        if features is None:
            features = prompt_features(inner, packed.prompts, packed.image, visit_vision)
        with watch_routers(inner) if routing is not None else nullcontext([]) as logits:
            hidden_NH, predict_M = (_shared_hidden if share_prefix else _plain_hidden)(
                inner, packed, features
            )
        if routing is not None:
            routing.count(logits, predict_M, packed.mask_BT.sum(1).tolist())
        targets_M = packed.response_ids_BT[packed.mask_BT]
        log_probs_M, entropy_M = head_log_probs(
            inner.lm_head, hidden_NH[predict_M], targets_M, temperature, banned_ids, with_entropy
        )
    zeros_BT = torch.zeros(packed.mask_BT.shape, dtype=log_probs_M.dtype, device=log_probs_M.device)
    log_probs_BT = zeros_BT.masked_scatter(packed.mask_BT, log_probs_M)
    entropy_BT = None if entropy_M is None else zeros_BT.masked_scatter(packed.mask_BT, entropy_M)
    return log_probs_BT, entropy_BT


def _shared_hidden(
    model: PreTrainedModel, packed: Packed, features: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Final states (N, hidden) of one packed row, and which of them predict the M real response tokens, row after row."""
    responses_BTH = model.get_input_embeddings()(packed.response_ids_BT)
    lengths = [int(n) for n in packed.mask_BT.sum(dim=1).tolist()]

    rows, ids, positions, segments = [], [], [], []
    predicts: dict[int, torch.Tensor] = {}
    offset = 0
    for k, prompt in enumerate(packed.prompts):
        start, length = offset, len(prompt.ids_P)
        rows.append(embed_prompt(model, prompt, features[k]))
        ids.append(prompt.ids_P)
        positions.append(prompt.position_ids_3P)
        segments.append(Segment(start, length))
        offset += length
        for b in (b for b, owner in enumerate(packed.prompt_of_B) if owner == k):
            fed = lengths[b] - 1  # the last response token predicts nothing and is not fed
            rows.append(responses_BTH[b, :fed])
            ids.append(torch.full((fed,), -1))
            positions.append(response_positions(prompt, fed))
            segments.append(Segment(offset, fed, start, length))
            # The prompt's last position predicts the first token, shared by all responses.
            predicts[b] = torch.cat([torch.tensor([start + length - 1]), torch.arange(offset, offset + fed)])
            offset += fed

    hidden_1LH = run_language_model(
        model,
        torch.cat(rows)[None],
        torch.cat(positions, dim=1)[:, None].to(model.device),
        layout=build_layout(segments, model.device),
        **deepstack(model, torch.cat(ids)[None], features),
    ).last_hidden_state
    predict_M = torch.cat([predicts[b] for b in range(len(lengths))]).to(model.device)
    return hidden_1LH[0], predict_M


def _plain_hidden(
    model: PreTrainedModel, packed: Packed, features: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from one row per response, `[prompt | response]`, padded on the right.

    Causal attention alone keeps padding out of every real position, so no mask is built.
    """
    device = model.device
    prompts_PH = [embed_prompt(model, p, f) for p, f in zip(packed.prompts, features)]
    responses_BTH = model.get_input_embeddings()(packed.response_ids_BT)
    lengths = packed.mask_BT.sum(dim=1).tolist()

    rows, ids, positions, predicts = [], [], [], []
    for b, k in enumerate(packed.prompt_of_B):
        prompt, length = packed.prompts[k], int(lengths[b])
        fed = length - 1
        rows.append(torch.cat([prompts_PH[k], responses_BTH[b, :fed]]))
        ids.append(prompt.ids_P)
        positions.append(torch.cat([prompt.position_ids_3P, response_positions(prompt, fed)], dim=1).T)
        start = len(prompt.ids_P) - 1
        predicts.append(torch.arange(start, start + length))
    embeddings_BLH = pad_sequence(rows, batch_first=True)
    ids_BL = torch.full(embeddings_BLH.shape[:2], -1)
    for b, ids_P in enumerate(ids):
        ids_BL[b, : len(ids_P)] = ids_P
    hidden_BLH = run_language_model(
        model,
        embeddings_BLH,
        pad_sequence(positions, batch_first=True).permute(2, 0, 1).to(device),
        **deepstack(model, ids_BL, [features[k] for k in packed.prompt_of_B]),
    ).last_hidden_state
    longest = hidden_BLH.shape[1]
    predict_M = torch.cat([index + b * longest for b, index in enumerate(predicts)])
    return hidden_BLH.flatten(0, 1), predict_M.to(device)


def run_language_model(
    model: PreTrainedModel,
    embeddings_BLH: torch.Tensor,
    positions_3BL: torch.Tensor,
    attention_mask_BL: torch.Tensor | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> Any:
    """The decoder stack with given embeddings and mRoPE positions. Without mask and layout attention is causal only."""
    decoder = language_model(model)
    kwargs.setdefault(
        "use_cache", False
    )  # a cache is the rollout's; the trainer would only copy keys and values into it
    if layout is not None:
        if decoder.config._attn_implementation != ATTENTION:
            raise RuntimeError(
                "this model's attention ignores who may see whom: call models.shared.use_group_attention(model) after "
                "loading it (models.loading.load_model does)"
            )
        # transformers takes a mask of four dimensions as it is and builds none; with a layout nobody looks at it.
        attention_mask_BL = torch.empty((1, 1, 1, 1), dtype=torch.bool, device=embeddings_BLH.device)
        kwargs["layout"] = layout
    elif attention_mask_BL is None:
        cache = kwargs.get("past_key_values")
        seen = 0 if cache is None else cache.get_seq_length()
        batch, length = embeddings_BLH.shape[:2]
        # All ones, which SDPA skips. Without a mask positions that do not count 0, 1, 2, ... would be taken for several
        # sequences in one row.
        attention_mask_BL = torch.ones(
            (batch, seen + length), dtype=torch.int64, device=embeddings_BLH.device
        )
    positions = positions_3BL if decoder is not model.model else positions_3BL[0]
    return decoder(
        inputs_embeds=embeddings_BLH, position_ids=positions, attention_mask=attention_mask_BL, **kwargs
    )
