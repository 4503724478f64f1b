"""One seed per sample: a function of what the sample is, not of when or beside whom it was drawn."""

from __future__ import annotations

import hashlib


def sample_seed(run_seed: int, prompt_id: str, step: int, index: int) -> int:
    """A 63-bit seed from (run seed, prompt id, step, sample index), the same on every machine and engine."""
    text = f"{run_seed}\x1f{prompt_id}\x1f{step}\x1f{index}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
