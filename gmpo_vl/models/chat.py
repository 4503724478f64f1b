"""A row in the model's chat format: rendered by the templates, and as ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gmpo_vl.data.templates import IMAGE_TAG, render_problem, to_messages
from gmpo_vl.models.control import ControlTokens
from gmpo_vl.types import Example

_ANSWER = "The answer is 7."


@dataclass(frozen=True)
class Chat:
    """A prompt in the chat format.

    id: of the example. text: rendered; where `hides`, with a mark for each control token that the problem
    spells out (control.py).
    """

    id: str
    text: str
    hides: bool
    tokenizer: Any
    control: ControlTokens

    def encode(self, text: str | None = None) -> tuple[str, list[int]]:
        """As people see it, and its ids. text: in place of the chat's own, for example with its pictures
        expanded. Raises ValueError, naming the example, as `ControlTokens.encode`."""
        text = self.text if text is None else text
        if self.hides:
            try:
                return self.control.encode(text)
            except ValueError as error:
                raise ValueError(f"{self.id}: {error}") from error
        return text, self.tokenizer(text, add_special_tokens=False)["input_ids"]


def render_chat(
    example: Example,
    tokenizer: Any,
    control: ControlTokens,
    chat_template: str,
    template: str | None,
    as_parts: bool = False,
) -> Chat:
    """One user turn, the answer's turn open. ValueError names the row and the template at fault.

    as_parts: the turn's content is a list of parts also where it is only text, as the templates of most
    vision-language models want it; text-only models' want a string.
    """
    try:
        hides = bool(control.found(example.problem))
        problem = control.hide(example.problem) if hides else example.problem
        content = _in_template(problem, template)
        messages = to_messages(content, len(example.images), as_parts)
        with _rendering("the chat template"):
            chat = tokenizer.apply_chat_template(
                messages, chat_template=chat_template, add_generation_prompt=True, tokenize=False
            )
        if hides:
            _check_kept(control, problem, content, chat)
        shown = [piece.strip() in chat for piece in content.split(IMAGE_TAG) if piece.strip()]
        if shown and not (all(shown) if as_parts else any(shown)):
            raise ValueError("the chat template leaves out or changes the problem's text")
    except ValueError as error:
        raise ValueError(f"{example.id}: {error}") from error
    return Chat(example.id, chat, hides, tokenizer, control)


def with_system_prompt(chat_template: str, system_prompt: str, as_parts: bool = False) -> str:
    """The chat template of chats that begin with a system turn. as_parts: as of `render_chat`."""
    content = [{"type": "text", "text": system_prompt}] if as_parts else system_prompt
    turn = json.dumps({"role": "system", "content": content}, ensure_ascii=False)
    return f"{{%- set messages = [{turn}] + messages -%}}\n{chat_template}"


def token_after_answer(
    tokenizer: Any, control: ControlTokens, chat_template: str, as_parts: bool = False
) -> str | None:
    """The first control token behind an answered turn. None where the template has none, or takes no answers.

    as_parts: as of `render_chat`.
    """
    question, answer = (to_messages(text, 0, as_parts)[0] for text in ("question", _ANSWER))
    try:
        with _rendering("the chat template"):
            chat = tokenizer.apply_chat_template(
                [question, {**answer, "role": "assistant"}], chat_template=chat_template, tokenize=False
            )
    except ValueError:
        return None  # `render_chat` tells of a template that takes no questions either
    return next(iter(control.found(chat.rpartition(_ANSWER)[2])), None)


def _check_kept(control: ControlTokens, problem: str, content: str, chat: str) -> None:
    for text, changer in ((content, "data.format_prompt"), (chat, "the chat template")):
        if not control.kept(problem, text):
            raise ValueError(
                f"{changer} changes the problem's text, which holds control tokens of the model; let it show "
                "the problem as it is, or take them out"
            )


def _in_template(problem: str, template: str | None) -> str:
    """The problem in the text of `data.format_prompt`."""
    with _rendering("data.format_prompt"):
        content = render_problem(problem, template)
    made, given = content.count(IMAGE_TAG), problem.count(IMAGE_TAG)
    if made != given:
        raise ValueError(f"data.format_prompt makes {made} {IMAGE_TAG} tags of the problem's {given}")
    return content


@contextmanager
def _rendering(what: str) -> Iterator[None]:
    """A template is anybody's code: whatever it raises becomes a ValueError that names the template."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{what} cannot be rendered: {type(error).__name__}: {error}") from error
