"""Log-probs of responses under a model: the one place where the trainer looks inside one.

`response_log_probs` is what every pass calls (old, reference, update). The picture goes through the ViT once per
distinct prompt, and the head runs on response positions only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from gmpo_vl.batching.packing import Packed
from gmpo_vl.data.types import Prompt
from gmpo_vl.models.compat import image_features
from gmpo_vl.models.patches import ImageSettings, make_patches
from gmpo_vl.models.shared import Segment, build_layout

# Positions per call of the head: full logits of a micro-batch (tokens x 152k) never exist at once.
HEAD_CHUNK = 2048


def unwrap(model: torch.nn.Module) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper (adapters stay active), or the model itself."""
    get_base = getattr(model, "get_base_model", None)
    return get_base() if get_base is not None else model  # type: ignore[return-value]


def language_model(model: PreTrainedModel) -> torch.nn.Module:
    """The decoder stack: embeddings in, final hidden states out."""
    inner = model.model
    return inner.language_model if hasattr(inner, "language_model") else inner


def prompt_features(
    model: PreTrainedModel, prompts: Sequence[Prompt], image: ImageSettings | None
) -> list[torch.Tensor]:
    """ViT features (image tokens, hidden) of each prompt, all pictures in one call; empty for text-only prompts."""
    with_images = [prompt for prompt in prompts if prompt.images]
    if not with_images:
        return [torch.empty(0) for _ in prompts]
    assert image is not None
    device = model.device
    patches = torch.cat([make_patches(x.to(device), image) for p in with_images for x in p.images])
    grid_N3 = torch.cat([p.image_grid_thw for p in with_images]).to(device)
    merged = grid_N3.prod(dim=1) // image.merge_size**2
    counts = [int(n) for n in merged.tolist()]
    features = iter(torch.split(image_features(model, patches, grid_N3), counts))
    return [
        torch.cat([next(features) for _ in p.images]) if p.images else torch.empty(0, device=device)
        for p in prompts
    ]


def embed_prompt(model: PreTrainedModel, prompt: Prompt, features: torch.Tensor) -> torch.Tensor:
    """(P, hidden): token embeddings with the image tokens' places taken by the picture's features."""
    ids_P = prompt.ids_P.to(model.device)
    embeddings_PH = model.get_input_embeddings()(ids_P)
    if not prompt.images:
        return embeddings_PH
    is_image_P = ids_P == model.config.image_token_id
    return embeddings_PH.masked_scatter(is_image_P[:, None], features.to(embeddings_PH.dtype))


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
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log pi(response token) at `temperature`, banned ids at -inf: float32 (B, T), 0 on padding.

    With `with_entropy` also the entropy of each position's distribution in nats, (B, T). Both carry gradients where
    the model's parameters do. share_prefix: every prompt once (shared.py), or once per response; the results agree up
    to rounding.
    """
    inner = unwrap(model)
    hidden_MH = _shared_hidden(inner, packed) if share_prefix else _plain_hidden(inner, packed)
    targets_M = packed.response_ids_BT[packed.mask_BT]
    log_probs_M, entropy_M = _head(inner, hidden_MH, targets_M, temperature, tuple(banned_ids), with_entropy)
    zeros_BT = torch.zeros(packed.mask_BT.shape, dtype=log_probs_M.dtype, device=log_probs_M.device)
    log_probs_BT = zeros_BT.masked_scatter(packed.mask_BT, log_probs_M)
    entropy_BT = None if entropy_M is None else zeros_BT.masked_scatter(packed.mask_BT, entropy_M)
    return log_probs_BT, entropy_BT


def _shared_hidden(model: PreTrainedModel, packed: Packed) -> torch.Tensor:
    """(M, hidden): the states that predict the M real response tokens, row after row, from one packed row."""
    features = prompt_features(model, packed.prompts, packed.image)
    responses_BTH = model.get_input_embeddings()(packed.response_ids_BT)
    lengths = [int(n) for n in packed.mask_BT.sum(dim=1).tolist()]

    rows, positions, segments = [], [], []
    predicts: dict[int, torch.Tensor] = {}
    offset = 0
    for k, prompt in enumerate(packed.prompts):
        start, length = offset, len(prompt.ids_P)
        rows.append(embed_prompt(model, prompt, features[k]))
        positions.append(prompt.position_ids_3P)
        segments.append(Segment(start, length))
        offset += length
        for b in (b for b, owner in enumerate(packed.prompt_of_B) if owner == k):
            fed = lengths[b] - 1  # the last response token predicts nothing and is not fed
            rows.append(responses_BTH[b, :fed])
            positions.append(response_positions(prompt, fed))
            segments.append(Segment(offset, fed, start, length))
            # The prompt's last position predicts the first token, shared by all responses.
            predicts[b] = torch.cat([torch.tensor([start + length - 1]), torch.arange(offset, offset + fed)])
            offset += fed

    embeddings_1LH = torch.cat(rows)[None]
    positions_31L = torch.cat(positions, dim=1)[:, None].to(model.device)
    layout = build_layout(segments, model.device)
    hidden_1LH = run_language_model(model, embeddings_1LH, positions_31L, layout=layout).last_hidden_state
    predict_M = torch.cat([predicts[b] for b in range(len(lengths))]).to(model.device)
    return hidden_1LH[0, predict_M]


def _plain_hidden(model: PreTrainedModel, packed: Packed) -> torch.Tensor:
    """The same from one row per response, `[prompt | response]`, padded on the right.

    Causal attention alone keeps padding out of every real position, so no mask is built.
    """
    device = model.device
    features = prompt_features(model, packed.prompts, packed.image)
    prompts_PH = [embed_prompt(model, p, f) for p, f in zip(packed.prompts, features)]
    responses_BTH = model.get_input_embeddings()(packed.response_ids_BT)
    lengths = packed.mask_BT.sum(dim=1).tolist()

    rows, positions, predicts = [], [], []
    for b, k in enumerate(packed.prompt_of_B):
        prompt, length = packed.prompts[k], int(lengths[b])
        fed = length - 1
        rows.append(torch.cat([prompts_PH[k], responses_BTH[b, :fed]]))
        positions.append(torch.cat([prompt.position_ids_3P, response_positions(prompt, fed)], dim=1).T)
        start = len(prompt.ids_P) - 1
        predicts.append(torch.arange(start, start + length))
    embeddings_BLH = pad_sequence(rows, batch_first=True)
    positions_3BL = pad_sequence(positions, batch_first=True).permute(2, 0, 1).to(device)
    hidden_BLH = run_language_model(model, embeddings_BLH, positions_3BL).last_hidden_state
    row_M = torch.cat([torch.full_like(index, b) for b, index in enumerate(predicts)])
    return hidden_BLH[row_M.to(device), torch.cat(predicts).to(device)]


def run_language_model(
    model: PreTrainedModel, embeddings_BLH, positions_3BL, attention_mask_BL=None, **kwargs
):
    """The decoder stack with given embeddings and mRoPE positions.

    Without a mask attention is causal only (a ready mask mapping keeps transformers from building one).
    """
    decoder = language_model(model)
    mask = (
        {"full_attention": None, "sliding_attention": None}
        if attention_mask_BL is None
        else attention_mask_BL
    )
    positions = positions_3BL if decoder is not model.model else positions_3BL[0]
    return decoder(inputs_embeds=embeddings_BLH, position_ids=positions, attention_mask=mask, **kwargs)


def _head(model, hidden_MH, targets_M, temperature, banned_ids, with_entropy):
    """Log-probs (M,) and entropies (M,) or None, computed in chunks whose logits are recomputed in the backward."""

    def chunk(hidden: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs = token_log_probs(model.lm_head(hidden), temperature, banned_ids)
        chosen = log_probs.gather(-1, targets[:, None]).squeeze(-1)
        if not with_entropy:
            return chosen, chosen
        # A banned id contributes 0: p log p -> 0.
        return chosen, -(log_probs.exp() * log_probs.masked_fill(log_probs == -torch.inf, 0.0)).sum(-1)

    several = len(targets_M) > HEAD_CHUNK and torch.is_grad_enabled()
    parts = [
        checkpoint(chunk, h, t, use_reentrant=False) if several else chunk(h, t)
        for h, t in zip(hidden_MH.split(HEAD_CHUNK), targets_M.split(HEAD_CHUNK))
    ]
    log_probs_M = torch.cat([part[0] for part in parts])
    return log_probs_M, torch.cat([part[1] for part in parts]) if with_entropy else None


def token_log_probs(logits: torch.Tensor, temperature: float, banned_ids: Sequence[int]) -> torch.Tensor:
    """log-softmax of logits (..., V) / temperature with banned ids at -inf, in float32 (float64 stays)."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if banned_ids:
        banned_V = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        banned_V[list(banned_ids)] = True
        logits = logits.masked_fill(banned_V, -torch.inf)
    return torch.log_softmax(logits / temperature, dim=-1)
