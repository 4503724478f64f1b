"""Any vision-language model, as transformers itself prepares it: its own processor, its own forward.

The processor writes each picture of a chat out as its tokens, and this project reads the text that comes of
it: control tokens that a problem spells out stay plain text. Pictures travel as bytes; the processor makes
inputs of them when a forward needs them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, BatchEncoding, PreTrainedModel

from gmpo_vl.data.images import MAX_IMAGE_PIXELS, ImageError
from gmpo_vl.models.chat import Chat
from gmpo_vl.models.compat import load_own_processor, no_code_of, picture_placeholder
from gmpo_vl.models.families import DecoderInputs, accepted
from gmpo_vl.models.geometry import language_model
from gmpo_vl.types import Example, Prompt

# A private character that no tokenizer makes a control token of: it parts pictures that are written out.
_BETWEEN = "\U000f5a18"
# Sizes of pictures whose text is kept: a text is up to 20 kB.
_KEPT = 1024
# Bytes of pictures' inputs that are kept on the host: all passes of a step want the same.
_KEPT_BYTES = 2**28


@dataclass(frozen=True)
class OwnFamily:
    """A `Family`. processor: transformers' own. placeholder: what a chat template writes for a picture.

    beginning, ending: ids that the tokenizer puts around a text whose template has not written them.
    """

    processor: Any
    placeholder: str
    image_token_id: int
    beginning: tuple[int, ...]
    ending: tuple[int, ...]
    patches_per_token: int = 0
    _looked_at: dict[bytes, dict[str, Any]] = field(default_factory=dict, compare=False)

    @property
    def processor_name(self) -> str:
        """The class of what prepares its pictures."""
        return type(self.processor.image_processor).__name__

    def encode(self, example: Example, chat: Chat, pictures: Iterable[Image.Image]) -> Prompt:
        shown = list(pictures)
        self._check_placeholders(example, chat)
        reader = _Reader(self.processor.tokenizer, lambda text: self._ids(chat, text))
        made = self._process(reader, chat.text, shown, example.id)
        ids_P = made.pop("input_ids")[0]
        per_token = {
            name: value[0]
            for name, value in made.items()
            if name != "attention_mask" and torch.is_tensor(value) and value.shape == (1, len(ids_P))
        }
        return Prompt(
            example=example,
            text=chat.encode()[0],
            ids_P=ids_P,
            images=tuple(torch.from_numpy(np.array(picture)) for picture in shown),
            image_grid_thw=torch.zeros((0, 3), dtype=torch.int64),
            position_ids_3P=torch.arange(len(ids_P)).expand(3, -1),
            per_token=per_token,
        )

    def prompt_length(self, example: Example, chat: Chat, sizes: Sequence[tuple[int, int]]) -> int:
        self._check_placeholders(example, chat)
        texts = iter(self._written(tuple(sizes)) if sizes else ())
        first, *others = chat.text.split(self.placeholder)
        return len(self._ids(chat, first + "".join(next(texts) + other for other in others)))

    def picture_length(self, width: int, height: int) -> int:
        return self.picture_ids(width, height).count(self.image_token_id)

    def picture_ids(self, width: int, height: int) -> list[int]:
        """The tokens that a picture is written out as, those around its image tokens included."""
        text = self._written(((width, height),))[0]
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decoder_inputs(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        features: Sequence[torch.Tensor] | None = None,
    ) -> list[DecoderInputs]:
        assert features is None, "features of pictures are kept for Qwen's models only"
        inputs = [self._decoder_inputs(model, prompt) for prompt in prompts]
        rows = max(len(one.positions_KP) for one in inputs)  # a prompt without pictures may have only one
        return [replace(one, positions_KP=one.positions_KP.expand(rows, -1)) for one in inputs]

    def _decoder_inputs(self, model: PreTrainedModel, prompt: Prompt) -> DecoderInputs:
        """What the model's own forward hands its decoder."""
        ids_1P = prompt.ids_P[None].to(model.device)
        given = _given_to_decoder(
            model,
            input_ids=ids_1P,
            attention_mask=torch.ones_like(ids_1P),
            use_cache=False,
            **self.public_inputs(model, prompt, 0),
        )
        _check_nothing_else(given)
        length = len(prompt.ids_P)
        positions = given.get("position_ids")
        positions_KP = torch.arange(length)[None] if positions is None else positions.reshape(-1, length)
        return DecoderInputs(
            embeddings_PH=given["inputs_embeds"][0],
            positions_KP=positions_KP[-3:].cpu(),  # some models put plain positions before mRoPE's three rows
            picture_P=ids_1P[0] == self.image_token_id,
            masks=_masks(given.get("attention_mask")),
        )

    def public_inputs(self, model: PreTrainedModel, prompt: Prompt, fed: int) -> dict[str, Any]:
        inputs = {
            name: torch.nn.functional.pad(value_P, (0, fed))[None]
            for name, value_P in prompt.per_token.items()
        }
        if prompt.images:
            inputs |= self.picture_inputs(prompt)
        taken = accepted(model, inputs)
        if left_out := sorted(set(inputs) - set(taken)):
            warnings.warn(
                f"{type(self.processor).__name__} makes {', '.join(left_out)}, which the forward of "
                f"{type(model).__name__} does not name: the model is run without",
                stacklevel=2,
            )
        return {name: _on(value, model) for name, value in taken.items()}

    def picture_inputs(self, prompt: Prompt) -> dict[str, Any]:
        """The inputs of a prompt's pictures. The newest are kept, up to _KEPT_BYTES."""
        key, kept = prompt.pictures_key, self._looked_at
        if key not in kept:
            pictures = [Image.fromarray(image.cpu().numpy()) for image in prompt.images]
            text = self.placeholder * len(pictures)
            made = self._process(self._plain_reader(), text, pictures, prompt.example.id)
            text_inputs = {"input_ids", "attention_mask", *prompt.per_token}
            kept[key] = {name: value for name, value in made.items() if name not in text_inputs}
            while len(kept) > 1 and sum(map(_bytes, kept.values())) > _KEPT_BYTES:
                del kept[next(iter(kept))]
        return kept[key]

    @cached_property
    def _written(self) -> Callable[[tuple[tuple[int, int], ...]], list[str]]:
        """The text that pictures of these sizes, (width, height), become: one after the other in a chat."""

        @lru_cache(maxsize=_KEPT)
        def written(sizes: tuple[tuple[int, int], ...]) -> list[str]:
            reader = self._plain_reader()
            text = (self.placeholder + _BETWEEN) * len(sizes)
            self._process(reader, text, [_blank(size) for size in sizes], f"pictures of {sizes}")
            return reader.text.split(_BETWEEN)[:-1]

        return written

    def _plain_reader(self) -> _Reader:
        tokenizer = self.processor.tokenizer
        return _Reader(tokenizer, lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])

    def _ids(self, chat: Chat, text: str) -> list[int]:
        """Ids of a chat's text, its pictures written out; as `apply_chat_template` of the processor, which
        lets the tokenizer add a beginning unless the template wrote it."""
        ids = chat.encode(text)[1]
        bos = self.processor.tokenizer.bos_token
        if bos is not None and text.startswith(bos):
            return ids
        return [*self.beginning, *ids, *self.ending]

    def _process(self, reader: _Reader, text: str, pictures: list[Image.Image], what: str) -> dict[str, Any]:
        """All that the processor makes of a text and its pictures, as tensors; the reader sees the text."""
        for picture in pictures:
            self._check_scaled(picture, what)
        processor = copy.copy(self.processor)
        processor.tokenizer = reader
        shown = {"images": pictures} if pictures else {}
        try:
            return dict(processor(text=[text], return_tensors="pt", **shown))
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(
                f"{what}: the model's {type(processor).__name__} cannot read it: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _check_scaled(self, picture: Image.Image, what: str) -> None:
        """A processor that scales the shorter side alone makes a gigantic picture of a very long one."""
        size = dict(self.processor.image_processor.size or {})
        if set(size) != {"shortest_edge"}:
            return
        long, short = max(picture.size), min(picture.size)
        pixels = size["shortest_edge"] ** 2 * long // short
        if pixels > MAX_IMAGE_PIXELS:
            raise ImageError(
                f"{what}: the model's processor scales the short side of a picture of {picture.width} x "
                f"{picture.height} pixels to {size['shortest_edge']}: it would have {pixels:,} pixels, more "
                f"than {MAX_IMAGE_PIXELS:,}; crop or pad it"
            )

    def _check_placeholders(self, example: Example, chat: Chat) -> None:
        found = chat.text.count(self.placeholder)
        if found != len(example.images):
            raise ValueError(
                f"{example.id}: {found} image tokens for {len(example.images)} pictures; "
                "does the chat template write one for each, and none of its own?"
            )


class _Encoding(BatchEncoding):
    def char_to_token(self, *_: Any) -> int:
        """Idefics 3's processor asks for it, for values that it then makes for nobody."""
        return 0


class _Reader:
    """Stands where a processor has its tokenizer: keeps the text that it is given, and reads it our way."""

    def __init__(self, tokenizer: Any, ids_of: Callable[[str], list[int]]):
        self._tokenizer, self._ids_of, self.text = tokenizer, ids_of, ""

    def __call__(self, text: list[str], **_: Any) -> BatchEncoding:
        (self.text,) = text
        ids = self._ids_of(self.text)
        return _Encoding({"input_ids": [ids], "attention_mask": [[1] * len(ids)]})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class _Caught(Exception):
    """Ends a forward where the decoder begins. given: its arguments."""

    def __init__(self, given: dict[str, Any]):
        self.given = given


def _given_to_decoder(model: PreTrainedModel, **inputs: Any) -> dict[str, Any]:
    def catch(_module: torch.nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        # The decoder of another arrangement might be any part of the model.
        if args or given.get("inputs_embeds") is None:
            raise ValueError(f"{type(model).__name__} does not hand embeddings to its decoder by their name")
        raise _Caught(given)

    hook = language_model(model).register_forward_pre_hook(catch, with_kwargs=True)
    try:
        type(model).forward(model, **inputs)
    except _Caught as caught:
        return caught.given
    finally:
        hook.remove()
    raise ValueError(f"{type(model).__name__} does not call its decoder")


# What a packed row has in its own form, and what changes nothing.
_TAKEN = {"inputs_embeds", "attention_mask", "position_ids", "cache_position", "use_cache", "return_dict"}


def _check_nothing_else(given: dict[str, Any]) -> None:
    more = [
        name
        for name, value in given.items()
        if name not in _TAKEN and (torch.is_tensor(value) or bool(value))
    ]
    if more:
        raise ValueError(f"its decoder is also given {', '.join(more)}, which a packed row does not have")


def _masks(given: Any) -> dict[str, torch.Tensor]:
    """Who sees whom by the name of a kind of layer, (P, P) bool, where the model made such masks."""
    if torch.is_tensor(given):
        given = dict.fromkeys(("full_attention", "sliding_attention"), given)
    made = {name: mask for name, mask in (given or {}).items() if torch.is_tensor(mask) and mask.ndim == 4}
    return {name: m[0, 0] if m.dtype == torch.bool else m[0, 0] == 0 for name, m in made.items()}


def own_family(folder: Path, tokenizer: Any) -> OwnFamily:
    """Of a model's folder. ValueError names what its processor lacks."""
    with no_code_of(folder, "configuration") as no_code:
        config = AutoConfig.from_pretrained(folder, **no_code)
    processor = load_own_processor(folder, config, tokenizer)
    image_token_id = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)
    placeholder = picture_placeholder(processor)
    if image_token_id is None or placeholder is None:
        raise ValueError(
            f"{folder}: models of the kind {config.model_type!r} have no token in the place of a picture, "
            "and only models that have one are supported"
        )
    family = OwnFamily(processor, placeholder, image_token_id, *_around(tokenizer))
    _check_tokens(family, folder)
    return family


def _check_tokens(family: OwnFamily, folder: Path) -> None:
    """ValueError where the token that the model puts a picture's features in place of is not what most of a
    picture's text becomes."""
    expected, processor = family.image_token_id, family.processor
    ids = family.picture_ids(112, 112)
    written = max(dict.fromkeys([expected, *ids]), key=ids.count)
    if ids.count(expected) > 0 and written == expected:
        return
    names = processor.tokenizer.convert_ids_to_tokens([expected, written])
    others = "none of it" if written == expected else f"mostly {written} ({names[1]!r})"
    raise ValueError(
        f"{folder}: config.json says that token {expected} ({names[0]!r}) stands for a picture, and for one "
        f"the {type(processor).__name__} of processor_config.json and the tokenizer's files writes {others}: "
        "the files are of different models. Copy or download all files of one model"
    )


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that a tokenizer puts before and after a text."""
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    starts = [i for i in range(len(whole)) if whole[i : i + len(inner)] == inner]
    start = starts[0] if starts else 0
    return tuple(whole[:start]), tuple(whole[start + len(inner) :])


def _blank(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size)


def _bytes(inputs: dict[str, Any]) -> int:
    return sum(value.nbytes for value in inputs.values() if torch.is_tensor(value))


def _on(value: Any, model: PreTrainedModel) -> Any:
    """On the model's device, and in its dtype where it is no integer."""
    if not torch.is_tensor(value):
        return value
    return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
