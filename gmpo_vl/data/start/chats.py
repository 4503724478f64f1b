"""Chats in a column: how their first question, the reply to it, and the pictures in it are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gmpo_vl.data.start.names import MOST, Guess, Sample, named
from gmpo_vl.data.values import texts_in

CHATS = ("conversations", "conversation", "messages", "dialogue", "dialog", "chat", "turns")
_ROLES = (("from", "value"), ("role", "content"))
_ASKS = ("human", "user")
_REPLIES = ("gpt", "assistant", "model", "bot", "chatgpt")
_IMAGE_PARTS = (
    ("image", "image"),
    ("image_url", "image_url.url"),
    ("image", "url"),
    ("input_image", "image_url"),
)


@dataclass(frozen=True)
class Chat:
    """Expressions of jinja for the first question of a chat column, and for the reply to it."""

    question: str | None
    reply: str | None
    num_longer: int  # chats with a second question


def read_chat(name: str, values: Sequence[Any]) -> Chat | None:
    """How chats of this column are read; None where it holds no chats. A template needs a plain name."""
    if not values or not name.isidentifier() or not all(map(_is_chat, values)):
        return None
    role, content = next(keys for keys in _ROLES if keys[0] in values[0][0])
    asked = [[i for i, turn in enumerate(v) if turn.get(role) in _ASKS] for v in values]
    replied = [[i for i, turn in enumerate(v) if turn.get(role) in _REPLIES] for v in values]
    in_parts = any(not isinstance(turn.get(content), str) for value in values for turn in value)

    def turn(places: list[list[int]], who: tuple[str, ...]) -> str | None:
        firsts = {place[0] if place else None for place in places}
        if firsts == {None}:
            return None
        picked = f"{name}[{next(iter(firsts))}]"
        if len(firsts) > 1:
            picked = f"({name} | selectattr('{role}', 'in', {list(who)}) | first)"
        return f"{picked}.{content}" + (" | as_text" if in_parts else "")

    return Chat(turn(asked, _ASKS), turn(replied, _REPLIES), sum(len(places) > 1 for places in asked))


def _is_chat(value: Any) -> bool:
    if (
        not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(turn, Mapping) for turn in value)
    ):
        return False
    return any(all(keys[0] in turn and keys[1] in turn for turn in value) for keys in _ROLES)


def guess_images_in_chat(sample: Sample) -> Guess | None:
    """Pictures that are parts of the first question's content, as OpenAI's messages have them."""
    for name in named(sample.columns, CHATS):
        chat = read_chat(name, sample.filled(name))
        content = chat and chat.question and chat.question.removesuffix(" | as_text")
        if not chat or not content or content == chat.question:
            continue
        for kind, place in _IMAGE_PARTS:
            chosen = f"selectattr('type', 'equalto', '{kind}') | map(attribute='{place}') | list"
            spec = f"{{{{ {content} | {chosen} | tojson }}}}"
            found = [texts_in(value) for value in sample.filled(spec)]
            if found and sum(bool(texts) for texts in found) >= MOST * len(sample.rows):
                return Guess("images", spec, f"parts of the messages in {name!r}")
    return None
