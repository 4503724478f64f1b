"""The next prompts are decoded and tokenised while the current ones are answered."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from gmpo_vl.types import Prompt


class Prefetch:
    """`encode(position, count)` with the stretch that follows, of the same length, already under way in a thread."""

    def __init__(self, encode: Callable[[int, int], list[Prompt]]):
        self._encode = encode
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._next: tuple[tuple[int, int], Future[list[Prompt]]] | None = None

    def __call__(self, position: int, count: int) -> list[Prompt]:
        """Errors of the thread come up here, with the stretch they belong to."""
        if self._next is not None and self._next[0] == (position, count):
            prompts = self._next[1].result()
        else:
            prompts = self._encode(position, count)
        following = (position + count, count)
        self._next = following, self._pool.submit(self._encode, *following)
        return prompts

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
