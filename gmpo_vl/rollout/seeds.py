"""One seed per sample: a function of what the sample is, not of when or beside whom it was drawn."""

from __future__ import annotations

import hashlib


def sample_seed(run_seed: int, prompt_id: str, occasion: int, index: int) -> int:
    """A 63-bit seed from (run seed, prompt id, occasion, sample index), the same on every machine and engine.

    occasion: which time this prompt is asked in the run: in training its position in the data order, which no other
    draw of any prompt has; 0 in evaluation.
    """
    text = f"{run_seed}\x1f{prompt_id}\x1f{occasion}\x1f{index}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
