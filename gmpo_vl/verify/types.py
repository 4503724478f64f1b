"""What the verifier says about one response."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """`outcome` is a short lower-case word that says why:

    equal        right: the only outcome that is correct
    different    another answer                         hedged       several answers where the gold is one
    no_answer    no box, or an empty one                truncated    the last box is cut off
    unreadable   the answer is nothing we can read      too_long     the box holds more than an answer
    undecided    our rules cannot tell                  invalid      no CountDown expression of the given numbers
    timeout      a worker was late and was killed       error        a worker, or we, failed on it

    extracted: the answer taken from the response, None when there is none.
    gold_type: what the gold was read as (integer, decimal, fraction, radical, choice, text, ...).
    seconds: what our own rules took; the time in a worker is not in it.
    """

    correct: bool
    extracted: str | None
    gold_type: str
    outcome: str
    seconds: float
