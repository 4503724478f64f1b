"""Is this answer right? `verify(gold, response)` says so, and why."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Literal

from gmpo_vl.verify.extract import last_box
from gmpo_vl.verify.gold import Gold, parse_gold
from gmpo_vl.verify.strict import gold_type, judge
from gmpo_vl.verify.types import Verdict

__all__ = ["Gold", "Verdict", "parse_gold", "verify", "verify_batch"]

Profile = Literal["strict"]
GoldLike = str | float | Sequence[str | float] | Gold


def verify(gold: GoldLike, response: str, profile: Profile = "strict") -> Verdict:
    """Judge the answer in the last `\\boxed{}` of a response.

    Raises ValueError for a gold that can verify nothing; never for what stands in the response.
    """
    start = perf_counter()
    spec = parse_gold(gold)
    if profile != "strict":
        raise ValueError(f"profile={profile!r} is unknown; it is 'strict'")
    found = last_box(response)
    outcome = found.problem if found.text is None else judge(spec, found.text.strip())
    return Verdict(outcome == "equal", found.text, gold_type(spec), str(outcome), perf_counter() - start)


def verify_batch(
    golds: Sequence[GoldLike], responses: Sequence[str], profile: Profile = "strict"
) -> list[Verdict]:
    """`verify` for each pair, in order."""
    if len(golds) != len(responses):
        raise ValueError(
            f"verify_batch got {len(golds)} golds and {len(responses)} responses; there must be one gold a response"
        )
    return [verify(gold, response, profile) for gold, response in zip(golds, responses)]
