"""Questions to an OpenAI-compatible endpoint: many at once, and none asked again that was answered.

Replies that can be read are kept in a folder of JSON lines, {"key": hash of endpoint and request, "reply":
text}; another is no answer. A process reads all files there once and appends to one of its own, a whole line
at a time: several may share the folder, and a line that is torn or damaged counts as not answered.

The API key is read from the environment. It stands in no file, and in no message.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gmpo_vl.progress import phase_bar
from gmpo_vl.storage.files import naming, parse_object
from gmpo_vl.storage.places import make_folder

MAX_REPLY = 16_000  # characters; the rest of a longer reply is dropped
MAX_LINE = 13 * MAX_REPLY  # bytes: a character may be written as 12
MISSING = "the openai library is not installed: pip install 'gmpo-vl[judge]'"

Request = dict[str, Any]  # the arguments of chat.completions.create


@dataclass(frozen=True)
class Endpoint:
    """timeout: seconds of one try. deadline: seconds of all questions together. max_retries: of one question,
    where there was no connection, no answer in time, a 408, 409, 429 or 5xx. The client waits in between,
    longer each time, or as long as Retry-After says.
    """

    base_url: str
    api_key_env: str | None
    concurrency: int
    timeout: float
    deadline: float
    max_retries: int

    def api_key(self) -> str:
        """The key of now, from the environment; empty where there is none."""
        return os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""

    def without_key(self, text: str) -> str:
        key = self.api_key()
        return text.replace(key, "***") if key else text


@dataclass(frozen=True)
class Failed:
    """Why there is no answer."""

    problem: str


NOT_ASKED = Failed("not asked any more")


class Replies:
    """The replies in a folder, and those that this process adds."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.path = folder / f"{uuid.uuid4().hex}.jsonl"
        self.known: dict[str, str] = {}
        for path in sorted(folder.glob("*.jsonl")):
            with path.open("rb") as lines:
                while line := lines.readline(MAX_LINE):
                    self._read(line)

    def _read(self, line: bytes) -> None:
        try:
            found = parse_object(line)
        except ValueError:
            return  # torn or damaged
        key, reply = found.get("key"), found.get("reply")
        if isinstance(key, str) and isinstance(reply, str) and len(reply) <= MAX_REPLY:
            self.known[key] = reply

    def add(self, key: str, reply: str) -> None:
        line = (json.dumps({"key": key, "reply": reply}) + "\n").encode()
        with naming(self.path), self.path.open("ab") as file:
            file.write(line)
        self.known[key] = reply


replies_in = lru_cache(maxsize=None)(Replies)  # a folder is read once a process


def library() -> Any:
    """The official client library. Raises ValueError where it is not installed."""
    try:
        import openai
    except ImportError as error:
        raise ValueError(MISSING) from error
    return openai


def ask(
    endpoint: Endpoint,
    requests: Sequence[Callable[[], Request]],
    read: Callable[[str], Any],
    replies: Replies,
    most_failed: int,
) -> list[Any]:
    """What `read` finds in the reply to each request, in order, or why there is nothing (`Failed`).

    requests: what makes each; it is called in a thread when its turn comes, so that as many requests are in
    memory as are asked at once. read: None for a reply that it cannot read; that question is asked once more,
    with the next seed, and again by the next call. Equal requests are asked once. Where more than
    `most_failed` fail the others are not waited for. Raises what `requests` raise.
    """
    asking = _Asking(endpoint, read, replies, most_failed)
    with phase_bar(f"asking {endpoint.base_url}", len(requests)) as advance:
        asyncio.run(asking.run(requests, lambda: advance(1)))
    late = NOT_ASKED if asking.left < 0 else Failed(f"no answer before the deadline, {endpoint.deadline:g} s")
    return [asking.found.get(number, late) for number in range(len(requests))]


class _TooManyFailed(Exception):
    pass


class _Asking:
    """One call of `ask`. found: by the request's number; answers: by its key, also those under way."""

    def __init__(
        self, endpoint: Endpoint, read: Callable[[str], Any], replies: Replies, most_failed: int
    ) -> None:
        self.endpoint, self.read, self.replies = endpoint, read, replies
        self.left = most_failed
        self.found: dict[int, Any] = {}
        self.answers: dict[str, asyncio.Task[Any]] = {}

    async def run(self, requests: Sequence[Callable[[], Request]], advance: Callable[[], None]) -> None:
        e = self.endpoint
        async with library().AsyncOpenAI(
            base_url=e.base_url, api_key=e.api_key() or "none", timeout=e.timeout, max_retries=e.max_retries
        ) as client:
            todo = iter(enumerate(requests))
            workers = [asyncio.ensure_future(self._work(client, todo, advance)) for _ in range(e.concurrency)]
            done, late = await asyncio.wait(workers, timeout=e.deadline, return_when=asyncio.FIRST_EXCEPTION)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            for worker in done:
                if not isinstance(worker.exception(), _TooManyFailed):
                    worker.result()  # raises what it raised: a full disk

    async def _work(
        self, client: Any, todo: Iterator[tuple[int, Callable[[], Request]]], advance: Callable[[], None]
    ) -> None:
        for number, make in todo:  # the workers take turns
            request = await asyncio.to_thread(make)
            key = _key(self.endpoint, request)
            if key not in self.answers:
                self.answers[key] = asyncio.ensure_future(self._answer(client, key, request))
            self.found[number] = await self.answers[key]
            advance()
            if isinstance(self.found[number], Failed):
                self.left -= 1
                if self.left < 0:
                    raise _TooManyFailed

    async def _answer(self, client: Any, key: str, request: Request) -> Any:
        known = self.replies.known.get(key)
        found = None if known is None else self.read(known)
        if found is not None:
            return found
        seed = request.get("seed")
        once_more = request if seed is None else {**request, "seed": seed + 1}
        said = ""
        for asked in (request, once_more):
            said = await self._complete(client, asked)
            if isinstance(said, Failed):
                return said
            found = self.read(said)
            if found is not None:
                self.replies.add(key, said)
                return found
        return Failed(f"a reply that is no verdict, twice: {said[:80]!r}")

    async def _complete(self, client: Any, request: Request) -> str | Failed:
        e = self.endpoint
        try:
            completion = await client.chat.completions.create(**request)
        except library().APITimeoutError:
            return Failed(f"no answer within {e.timeout:g} s")
        except (library().OpenAIError, ValueError) as error:  # ValueError: what was sent back is no JSON
            cause = error.__cause__ if isinstance(error, library().APIConnectionError) else None
            said = " ".join(e.without_key(str(cause or error)).split())
            return Failed(f"{type(error).__name__}: {said[:200]}")
        choices = getattr(completion, "choices", None)
        if not choices or getattr(choices[0], "message", None) is None:
            return Failed(f"what {e.base_url} sent back is no chat completion")
        if choices[0].finish_reason == "length":
            return Failed("a reply cut at its limit: raise max_tokens")
        return e.without_key(choices[0].message.content or "")[:MAX_REPLY]


def _key(endpoint: Endpoint, request: Request) -> str:
    """Of everything that the reply depends on, pictures included."""
    whole = json.dumps([endpoint.base_url, request], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()
