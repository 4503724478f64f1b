"""What the `answer` column says. `data.encode_answer` writes the JSON form; this is its only reader."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from numbers import Number
from typing import Any

from gmpo_vl.data.answers import TYPES, check_tolerance, encoded_fields, written
from gmpo_vl.data.letters import without_letters
from gmpo_vl.verify.normalise import undoubled

# An item of a list of texts as JSON, Python or numpy writes it: what a column of lists becomes as text.
_ITEM_AS_TEXT = re.compile(r"""\s*(?:'([^']+)'|"([^"]+)")\s*,?""")

ITEM_JOINT = "; "  # between the items of a list, written as one text


@dataclass(frozen=True)
class Gold:
    """alternatives: any one of them is right; of type `list`, all of them together. tolerance: relative.
    choices: the texts of A, B, ... without their letters.
    """

    alternatives: tuple[str, ...]
    type: str | None = None
    tolerance: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """The texts of which any one is right: the alternatives, or all items of a list as one text."""
        return (ITEM_JOINT.join(self.alternatives),) if self.type == "list" else self.alternatives

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Kept, since a gold is looked up in several caches for each answer."""
        return hash((self.alternatives, self.type, self.tolerance, self.choices))


def parse_gold(gold: str | float | Sequence[str | float] | Gold) -> Gold:
    """Read a gold: plain text, a number, a list of alternatives (also one written as text, `['1', '2']`), or
    the JSON object string of `encode_answer`.

    Raises ValueError for a gold that can verify nothing (empty, JSON with keys nobody reads, None, a dict):
    that is the data's mistake, never the model's.
    """
    if isinstance(gold, Gold):
        return gold
    if isinstance(gold, str):
        return _parse_text(gold)
    to_list = getattr(gold, "tolist", None)  # numpy's numbers and arrays, as pandas reads parquet
    plain: Any = to_list() if to_list else gold
    alternatives = list(plain) if isinstance(plain, list | tuple) else [plain]
    if not all(map(_is_gold, alternatives)):
        raise ValueError(f"the gold is {repr(gold)[:100]}; it is a text, a number or a list of alternatives")
    return _checked(alternatives, {})


def _is_gold(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | Number) and not isinstance(value, bool)


@lru_cache(maxsize=50_000)
def _parse_text(text: str) -> Gold:
    try:
        fields = encoded_fields(text)
    except ValueError as error:
        raise ValueError(f"the gold {text[:80]!r} {error}") from error
    if fields is not None:
        value = fields.pop("gold")
        return _checked(value if isinstance(value, list) else [value], fields)
    return _checked([text.strip()], {})


def _checked(golds: Sequence[object], fields: dict) -> Gold:
    alternatives = [text for gold in golds for text in _texts(written(gold, fields.get("type")))]
    distinct = tuple(dict.fromkeys(alternatives))
    if not distinct or not all(distinct):
        raise ValueError(f"the gold {alternatives!r} is empty: a row without an answer cannot be verified")
    kind, tolerance, choices = (fields.get(key) for key in ("type", "tolerance", "choices"))
    if kind not in (None, *TYPES):
        raise ValueError(f"the gold {alternatives!r} has type={kind!r}; it is one of {', '.join(TYPES)}")
    check_tolerance(tolerance, f"the gold {alternatives!r}")
    texts = list(map(str, choices or ()))
    return Gold(distinct, kind, tolerance, tuple(texts if kind == "countdown" else without_letters(texts)))


def _texts(gold: str) -> list[str]:
    """`['1', '2']` is 1 and 2; any other text is itself."""
    if not (gold[:1] == "[" and gold[-1:] == "]"):
        return [gold]
    inside, at, found = gold[1:-1].rstrip(), 0, []
    while match := _ITEM_AS_TEXT.match(inside, at):
        found.append(undoubled((match[1] or match[2]).strip()))
        at = match.end()
    return found if found and at == len(inside) else [gold]
