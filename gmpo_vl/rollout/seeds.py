"""One seed per sample: it depends on what the sample is, not on when or with which others it is drawn."""

from __future__ import annotations

import hashlib


def sample_seed(run_seed: int, prompt_id: str, occasion: int, index: int) -> int:
    """A 63-bit seed from (run seed, prompt id, occasion, sample index), the same on every machine and engine.

    occasion: which time the run asks this prompt: in training its unique position in the data order, else 0.
    """
    text = f"{run_seed}\x1f{prompt_id}\x1f{occasion}\x1f{index}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def turn_name(row_id: str, episode: int, number: int) -> str:
    """What a turn after the first is seeded by, as `prompt_id` of `sample_seed`. Rows' ids may have `/` in
    them, but hardly control characters: no row is called so."""
    return f"{row_id}\x1f{episode}\x1f{number}"


def game_seed(run_seed: int, row_id: str, position: int) -> int:
    """The seed of a row's game, 31 bits (libraries take no more), the same for all episodes of a group.

    position: as `occasion` of `sample_seed`.
    """
    text = f"{run_seed}\x1f{row_id}\x1f{position}\x1fgame"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 33
