"""What the judge is asked, and what its reply says."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gmpo_vl.data.answers import LETTERS
from gmpo_vl.data.letters import line_of
from gmpo_vl.data.templates import IMAGE_TAG
from gmpo_vl.rewards.endpoint import Endpoint, Request
from gmpo_vl.rewards.values import check_values, is_number, is_share, refusal
from gmpo_vl.types import ImageSource
from gmpo_vl.verify import Gold

TEMPLATE = Path(__file__).with_name("judge.jinja")
_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
# What the control tokens of chat formats begin with: <|im_end|>, </s>, [INST], <｜User｜>, ]~b]; also in the
# other widths, which some tokenizers make equal.
_OPENING = re.compile(r"([<＜﹤\[［]|](?=~))(?=\S)")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_NAME_OF_KEY = re.compile(
    r"(?:^|_)(?:api_?key|secret(?:_?key)?|password|authorization|credentials?|(?:access|auth|api|bearer)_?token)$"
    r"|^token$"
)
_WORDS = {"correct": True, "yes": True, "true": True, "incorrect": False, "no": False, "false": False}


@dataclass(frozen=True)
class Settings:
    """The judge's options (`worker.reward.reward_function_kwargs`). `judge.ABOUT` says what each means.

    Raises ValueError for values that cannot be.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = "OPENAI_API_KEY"
    prompt: str | None = None
    with_images: bool = False
    max_pixels: int = 1_048_576
    verify_first: bool | None = None
    answer_in: str = "box"
    format_weight: float = 0.0
    temperature: float | None = 0.0
    seed: int | None = 0
    max_tokens: int | None = 2048
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 16
    timeout: float = 60.0
    deadline: float = 1800.0
    max_retries: int = 6
    max_failed_share: float = 0.02
    cache: str | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_pixels"):
            if not _is_whole(getattr(self, name)) or getattr(self, name) < 1:
                raise _refusal(name, getattr(self, name), "a whole number of at least 1")
        if not _is_whole(self.max_retries) or self.max_retries < 0:
            raise _refusal("max_retries", self.max_retries, "a whole number of at least 0")
        for name in ("timeout", "deadline"):
            if not is_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise _refusal(name, getattr(self, name), "seconds, greater than 0")
        if not is_share(self.max_failed_share):
            raise _refusal("max_failed_share", self.max_failed_share, "a number between 0 and 1")
        check_values("judge", format_weight=self.format_weight, answer_in=self.answer_in)
        if not isinstance(self.model, str) or not self.model:
            raise _refusal("model", self.model, "the name by which the endpoint knows the model")
        if not isinstance(self.extra_body, Mapping):
            raise _refusal("extra_body", self.extra_body, "a mapping")
        if hidden := _names_of_keys(self.extra_body):
            raise ValueError(
                f"reward judge: extra_body holds {', '.join(hidden)}, and would be saved with the run: write "
                "the key into the variable that api_key_env names"
            )
        for name in ("prompt", "cache"):
            if not isinstance(getattr(self, name), str | None):
                raise _refusal(name, getattr(self, name), "a path")
        _check_url(self.base_url)
        if self.api_key_env is not None and not _VARIABLE.fullmatch(str(self.api_key_env)):
            raise ValueError(  # which may be the key itself: it is not shown
                "reward judge: api_key_env is the name of an environment variable, in capitals, never the key"
            )
        key = self.endpoint().api_key()
        if self.api_key_env is not None and not key:
            raise ValueError(
                f"reward judge: the environment has no {self.api_key_env}, which is to hold the API key: set "
                "it, or write api_key_env: null where the endpoint asks for none"
            )
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"reward judge: {self.api_key_env} holds characters that no API key has")

    def endpoint(self) -> Endpoint:
        return Endpoint(
            self.base_url, self.api_key_env, self.concurrency, self.timeout, self.deadline, self.max_retries
        )

    def template(self) -> str:
        """The text of the prompt. Raises ValueError where there is no such file."""
        path = TEMPLATE if self.prompt is None else Path(self.prompt).expanduser()
        if not path.is_file():
            raise ValueError(f"reward judge: prompt: there is no file {path} (seen from {Path.cwd()})")
        return _text(path)

    def prompt_sha256(self) -> str:
        return hashlib.sha256(self.template().encode()).hexdigest()

    def asks_verifier(self) -> bool:
        """A prompt of one's own may ask for something else than our verifier does."""
        return self.prompt is None if self.verify_first is None else self.verify_first

    def folder(self) -> Path:
        """Of the replies: one for each model and endpoint."""
        users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "gmpo_vl" / "judge"
        base = Path(self.cache) if self.cache is not None else users
        name = re.sub(r"[^\w.-]+", "_", self.model)[-80:]
        digest = hashlib.sha256(f"{self.base_url} {self.model}".encode()).hexdigest()[:12]
        return base.expanduser() / f"{name}-{digest}"


@lru_cache(maxsize=4)
def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"reward judge: prompt: {path} is not UTF-8 ({error}); save it as UTF-8") from error


def _check_url(url: Any) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refusal("base_url", url, "an address such as http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query:
        raise ValueError(
            "reward judge: base_url holds a user, a password or a query, and would be saved with the run: "
            "write the address alone, and the key into the variable that api_key_env names"
        )


_refusal = partial(refusal, "judge")


def _names_of_keys(value: Any) -> list[str]:
    """Names in a request's body under which a key or a password stands."""
    if isinstance(value, list | tuple):
        return [name for part in value for name in _names_of_keys(part)]
    if not isinstance(value, Mapping):
        return []
    own = [str(name) for name in value if _NAME_OF_KEY.search(str(name).lower().replace("-", "_"))]
    return own + [name for part in value.values() for name in _names_of_keys(part)]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def question(
    settings: Settings, given: Mapping[str, Any], gold: Gold, answer: str | None, pictures: Sequence[str]
) -> Request:
    """The request about one response. answer: what stands in its box or tag; None: there is nothing.
    pictures: as `data:` addresses.

    The mark around the answer is made from the response, so no response can hold its own. Control tokens of
    the judge that are spelt out somewhere are broken by a space.
    """
    mark = f"-----{hashlib.sha256(given['response'].encode(errors='replace')).hexdigest()[:16]}-----"
    text = rendered(
        settings.template(),
        problem=_numbered(given["problem"]),
        golds=[_broken(text) for text in gold.answers],
        choices=[_broken(line) for line in _lines(gold.choices)],
        response=_broken(given["response"]),
        answer=None if answer is None else _broken(answer),
        pictures=len(pictures),
        mark=mark,
    )
    content: Any = text
    if pictures:
        parts = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
        content = [*parts, {"type": "text", "text": text}]
    asked = {"model": settings.model, "messages": [{"role": "user", "content": content}]}
    for name in ("temperature", "seed", "max_tokens"):
        if getattr(settings, name) is not None:
            asked[name] = getattr(settings, name)
    return asked | ({"extra_body": dict(settings.extra_body)} if settings.extra_body else {})


def _numbered(problem: str) -> str:
    """`[picture 1]` where a picture stood: the endpoint is given pictures before the text."""
    first, *rest = map(_broken, problem.split(IMAGE_TAG))
    return first + "".join(f"[picture {i}]{piece}" for i, piece in enumerate(rest, start=1))


def _lines(choices: Sequence[str]) -> list[str]:
    """As a problem shows them; those after Z have no letter."""
    lettered = [line_of(letter, text) for letter, text in zip(LETTERS, choices)]
    return [*lettered, *choices[len(lettered) :]]


def _broken(text: str) -> str:
    return _OPENING.sub(r"\1 ", text)


def rendered(template: str, **values: Any) -> str:
    """Raises ValueError where the template is no jinja, or uses a name that there is not."""
    from jinja2 import TemplateError

    try:
        text = _compiled(template).render(**values)
    except TemplateError as error:
        raise ValueError(
            f"reward judge: prompt cannot be rendered: {error} (it is given {', '.join(values)})"
        ) from error
    return text.encode(errors="replace").decode()  # half a surrogate pair cannot be sent


@lru_cache(maxsize=4)
def _compiled(template: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(template)


def data_uri(source: ImageSource, max_pixels: int) -> str:
    """The picture as a PNG in a `data:` address, scaled down to at most `max_pixels`. Raises ImageError."""
    from gmpo_vl.data.images import PILLOW_MAX_PIXELS, decode_image, fit_pixels

    file = io.BytesIO()
    picture = decode_image(source, PILLOW_MAX_PIXELS)  # data.max_image_pixels was held against the rows
    fit_pixels(picture, None, max_pixels).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def verdict_of(reply: str) -> bool | None:
    """`{"correct": true}` or one word; None for anything else. Thoughts in front and a code fence may be."""
    text = _THOUGHT.sub("", reply, count=1).strip()
    fenced = _FENCED.fullmatch(text)
    text = fenced[1] if fenced else text
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        said = found.get("correct") if isinstance(found, dict) else None
        return said if isinstance(said, bool) else None
    return _WORDS.get(text.strip('"*. ').lower())
