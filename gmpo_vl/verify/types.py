"""What the verifier says about one response."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """`outcome` is a short lower-case word that says why: `equal`, `different`, `no_answer`, `timeout`, ...

    extracted: the answer taken from the response, None when there is none.
    gold_type: what the gold was read as (integer, decimal, fraction, radical, choice, text, ...).
    """

    correct: bool
    extracted: str | None
    gold_type: str
    outcome: str
    seconds: float
