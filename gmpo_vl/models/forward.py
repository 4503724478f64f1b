"""Log-probs of responses under a model: the one place where the trainer looks inside one.

Every pass calls `response_log_probs` (old, reference, update). Each distinct prompt's pictures go through the
ViT once, and the head runs on response positions only. A model of another build goes through its public
inputs instead, one rollout at a time (public.py).

FSDP gathers a model's weights when the wrapped module is *called*, so everything that reads them must happen
inside that call. `answer_packed` makes the call do it:

    answer_packed(model)                  # before wrapping; works on a PEFT model too
    sharded = FullyShardedDataParallel(model, auto_wrap_policy=...)
    log_probs_BT, entropy_BT = sharded(packed, temperature, banned_ids)

`response_log_probs` calls the head as a module, so the head may be a unit of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from gmpo_vl.models.families import DecoderInputs, response_positions
from gmpo_vl.models.families.qwen import prompt_features, visit
from gmpo_vl.models.geometry import inner_model, language_model
from gmpo_vl.models.head import head_log_probs, own_logits
from gmpo_vl.models.layout import Layout, build_layout
from gmpo_vl.models.packing import ForwardOptions, Packed, Segment
from gmpo_vl.models.public import public_log_probs
from gmpo_vl.models.routers import watch_routers
from gmpo_vl.models.shared import ATTENTION, is_known, sharing_obstacle
from gmpo_vl.types import ImageSettings, Prompt


def unwrap(model: torch.nn.Module) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper (adapters stay active), or the model itself."""
    get_base = getattr(model, "get_base_model", None)
    return get_base() if get_base is not None else model  # type: ignore[return-value]


def response_log_probs(
    model: torch.nn.Module,
    packed: Packed,
    temperature: float,
    banned_ids: Sequence[int],
    with_entropy: bool = False,
    options: ForwardOptions | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log pi(response token) at `temperature`, banned ids at -inf: float32 (B, T), 0 on padding.

    With `with_entropy` also the entropy of each position's distribution in nats, (B, T). With gradients.
    Without options a model shares prompts where it can. Raises ValueError for a way that it cannot go:
    micro-batches were cut for that way, and in another one ranks would gather weights unequally often.
    """
    inner, how = unwrap(model), (temperature, banned_ids, with_entropy)
    obstacle = sharing_obstacle(inner.config)
    options = options or ForwardOptions("shared" if obstacle is None else "public")
    if options.way != "public" and obstacle is not None:
        raise ValueError(
            f"responses cannot go through this model the way {options.way!r}: {obstacle}; ask for the way "
            "'public' (models.shared.first_way says which a model goes)"
        )
    if options.way == "public":
        log_probs_M, entropy_M = public_log_probs(inner, packed, *how, options)
    else:
        hidden_NH, predict_M = _hidden(inner, packed, options)
        targets_M = packed.response_ids_BT[packed.mask_BT]
        head = inner.lm_head if is_known(inner.config) else partial(own_logits, inner)
        log_probs_M, entropy_M = head_log_probs(head, hidden_NH[predict_M], targets_M, *how)
    zeros_BT = torch.zeros(packed.mask_BT.shape, dtype=log_probs_M.dtype, device=log_probs_M.device)
    log_probs_BT = zeros_BT.masked_scatter(packed.mask_BT, log_probs_M)
    entropy_BT = None if entropy_M is None else zeros_BT.masked_scatter(packed.mask_BT, entropy_M)
    return log_probs_BT, entropy_BT


def _hidden(
    model: PreTrainedModel, packed: Packed, options: ForwardOptions
) -> tuple[torch.Tensor, torch.Tensor]:
    """Final states (N, hidden), and the places of those that predict the M response tokens, row after row."""
    routing = options.routing
    # Made before the prompts' embeddings: autograd adds both to the matrix's gradient in this order, and runs
    # of earlier versions stay the same to the digit.
    responses_BTH = model.get_input_embeddings()(packed.response_ids_BT)
    inputs = _decoder_inputs(model, packed, options.visit)
    hidden = _shared_hidden if options.way == "shared" else _plain_hidden
    with nullcontext([]) if routing is None else watch_routers(model) as logits:
        hidden_NH, predict_M = hidden(model, packed, inputs, responses_BTH)
    if routing is not None:
        routing.count(logits, predict_M, packed.mask_BT.sum(1).tolist())
    return hidden_NH, predict_M


def _decoder_inputs(
    model: PreTrainedModel, packed: Packed, visited: ImageSettings | None
) -> list[DecoderInputs]:
    """Of each prompt. The ViT comes first, with or without a picture: ranks gather weights in one order."""
    if visited is None or any(prompt.images for prompt in packed.prompts):
        return packed.family.decoder_inputs(model, packed.prompts, packed.features)
    nothing = visit(model, visited)  # it is 0, but makes the backward pass run through the ViT
    first, *others = packed.family.decoder_inputs(model, packed.prompts, packed.features)
    return [replace(first, embeddings_PH=first.embeddings_PH + nothing), *others]


def _shared_hidden(
    model: PreTrainedModel, packed: Packed, inputs: Sequence[DecoderInputs], responses_BTH: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_hidden` in one packed row, every prompt once (shared.py)."""
    lengths = [int(n) for n in packed.mask_BT.sum(dim=1).tolist()]

    rows, pictures, positions, segments, masks = [], [], [], [], {}
    predicts: dict[int, torch.Tensor] = {}
    offset = 0
    for k, prompt in enumerate(inputs):
        start, length = offset, len(prompt.embeddings_PH)
        masks[start] = prompt.masks
        rows.append(prompt.embeddings_PH)
        pictures.append(prompt.picture_P)
        positions.append(prompt.positions_KP)
        segments.append(Segment(start, length))
        offset += length
        for b in (b for b, owner in enumerate(packed.prompt_of_B) if owner == k):
            fed = lengths[b] - 1  # the last response token predicts nothing and is not fed
            rows.append(responses_BTH[b, :fed])
            pictures.append(prompt.picture_P.new_zeros(fed))
            positions.append(response_positions(prompt.positions_KP, fed))
            segments.append(Segment(offset, fed, start, length))
            # The prompt's last position predicts the first token, shared by all responses.
            predicts[b] = torch.cat([torch.tensor([start + length - 1]), torch.arange(offset, offset + fed)])
            offset += fed

    hidden_1LH = run_language_model(
        model,
        torch.cat(rows)[None],
        torch.cat(positions, dim=1)[:, None].to(model.device),
        layout=build_layout(segments, model.device, masks),
        **deepstack(inputs, torch.cat(pictures)[None]),
    ).last_hidden_state
    predict_M = torch.cat([predicts[b] for b in range(len(lengths))]).to(model.device)
    return hidden_1LH[0], predict_M


def _plain_hidden(
    model: PreTrainedModel, packed: Packed, inputs: Sequence[DecoderInputs], responses_BTH: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_hidden` in one row per response, `[prompt | response]`, padded on the right.

    Causal attention keeps padding out of every real position, so no mask is built.
    """
    device = model.device
    lengths = packed.mask_BT.sum(dim=1).tolist()

    rows, pictures, positions, predicts = [], [], [], []
    for b, k in enumerate(packed.prompt_of_B):
        prompt, length = inputs[k], int(lengths[b])
        fed = length - 1
        rows.append(torch.cat([prompt.embeddings_PH, responses_BTH[b, :fed]]))
        pictures.append(pad(prompt.picture_P, (0, fed)))
        positions.append(
            torch.cat([prompt.positions_KP, response_positions(prompt.positions_KP, fed)], dim=1).T
        )
        start = len(prompt.embeddings_PH) - 1
        predicts.append(torch.arange(start, start + length))
    hidden_BLH = run_language_model(
        model,
        pad_sequence(rows, batch_first=True),
        pad_sequence(positions, batch_first=True).permute(2, 0, 1).to(device),
        **deepstack([inputs[k] for k in packed.prompt_of_B], pad_sequence(pictures, batch_first=True)),
    ).last_hidden_state
    longest = hidden_BLH.shape[1]
    predict_M = torch.cat([index + b * longest for b, index in enumerate(predicts)])
    return hidden_BLH.flatten(0, 1), predict_M.to(device)


def deepstack(inputs: Sequence[DecoderInputs], picture_BL: torch.Tensor) -> dict[str, Any]:
    """The decoder's arguments for DeepStack features; none for models without them.

    picture_BL: bool, where the image tokens of these prompts are, row by row.
    """
    features = [of.deepstack_DNH for of in inputs if of.deepstack_DNH is not None]
    if not features:
        return {}
    return {"visual_pos_masks": picture_BL, "deepstack_visual_embeds": list(torch.cat(features, dim=1))}


def run_language_model(
    model: PreTrainedModel,
    embeddings_BLH: torch.Tensor,
    positions_KBL: torch.Tensor,
    attention_mask_BL: torch.Tensor | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> Any:
    """Run the decoder on embeddings and positions. Without mask and layout attention is just causal."""
    decoder = language_model(model)
    kwargs.setdefault("use_cache", False)  # only rollouts need one; the trainer would fill it for nothing
    if layout is not None:
        if decoder.config._attn_implementation != ATTENTION:
            raise RuntimeError(
                "this model's attention ignores who may see whom: call "
                "models.shared.use_group_attention(model) after loading it (models.loading.load_model does)"
            )
        # transformers builds no mask where it gets one of four dimensions; with a layout nobody reads it.
        attention_mask_BL = torch.empty((1, 1, 1, 1), dtype=torch.bool, device=embeddings_BLH.device)
        kwargs["layout"] = layout
    elif attention_mask_BL is None:
        cache = kwargs.get("past_key_values")
        seen = 0 if cache is None else cache.get_seq_length()
        batch, length = embeddings_BLH.shape[:2]
        # SDPA skips a mask of ones. Without any mask, transformers would read positions that do not count 0,
        # 1, 2, ... as several sequences in one row.
        attention_mask_BL = torch.ones(
            (batch, seen + length), dtype=torch.int64, device=embeddings_BLH.device
        )
    several = len(positions_KBL) > 1 and decoder is not inner_model(model)  # mRoPE
    positions = positions_KBL if several else positions_KBL[0]
    out = decoder(
        inputs_embeds=embeddings_BLH, position_ids=positions, attention_mask=attention_mask_BL, **kwargs
    )
    if layout is not None and not layout.heard:
        raise RuntimeError(f"{type(decoder).__name__} does not tell its attention who may see whom")
    return out


@dataclass(frozen=True)
class Look:
    """Asks a model for the ViT features of these prompts' pictures. The ViT runs for no prompts, too."""

    prompts: Sequence[Prompt]
    image: ImageSettings


def answer_packed(model: torch.nn.Module) -> None:
    """Change this model object: `model(packed, ...)` is `response_log_probs(model, packed, ...)`, and
    `model(look)` is `prompt_features` of the look's prompts. Any other call is the model's own forward."""
    model.forward = MethodType(_answer, model)


def _answer(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
    if args and isinstance(args[0], Packed):
        return response_log_probs(self, *args, **kwargs)
    if args and isinstance(args[0], Look):
        return _looked_at(unwrap(self), args[0])
    return type(self).forward(self, *args, **kwargs)


def _looked_at(model: PreTrainedModel, look: Look) -> list[torch.Tensor]:
    if not any(prompt.images for prompt in look.prompts):
        visit(model, look.image)
    return prompt_features(model, look.prompts, look.image)
