"""Prompt lengths of a split, and which limits would let every row in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmpo_vl.models.processing import Processor
from gmpo_vl.models.prompts import PromptSettings
from gmpo_vl.preflight.row_check import picture_tokens
from gmpo_vl.preflight.survey import SplitSurvey
from gmpo_vl.sizing.cost import Rates, pictures_cost

BARS = 24
LARGEST_PIXELS = 2**26
QUANTILES = (0.5, 0.9, 0.99, 1.0)


def histogram(tokens_K: Sequence[int], limit: int) -> list[list[int]]:
    """[from, to (excluded), rows] each, in equal steps. Where prompts get too long there is an edge."""
    tokens = np.asarray(tokens_K, dtype=np.int64)
    if len(tokens) == 0:
        return []
    low, high = int(tokens.min()), int(tokens.max()) + 1
    step = max(1, -(-(high - low) // BARS))
    anchor = limit + 1 if low <= limit < high else low
    first = anchor - -(-(anchor - low) // step) * step
    edges = np.arange(first, high + step, step)
    counts, _ = np.histogram(tokens, edges)
    return [[int(a), int(b), int(n)] for a, b, n in zip(edges[:-1], edges[1:], counts)]


def quantiles(tokens_K: Sequence[int]) -> dict[str, int]:
    """{"p50": tokens, ..., "max": tokens}; empty without rows."""
    if len(tokens_K) == 0:
        return {}
    values = np.quantile(np.asarray(tokens_K), QUANTILES, method="higher")
    return {("max" if q == 1 else f"p{q * 100:.0f}"): int(v) for q, v in zip(QUANTILES, values)}


def fitting_max_pixels(
    survey: SplitSurvey, settings: PromptSettings, processor: Processor | None
) -> int | None:
    """The largest `data.max_pixels` that lets the over-long rows in; None without any, if none does, or where
    a model gives its pictures as many tokens whatever their size."""
    image = None if processor is None else processor.image
    if processor is None or image is None or not survey.long_rows:
        return None
    family = processor.family

    def fits(max_pixels: int) -> bool:
        smallest = min(settings.min_pixels or max_pixels, max_pixels)
        return all(
            text + sum(picture_tokens(size, family, smallest, max_pixels) for size in sizes)
            <= settings.max_prompt_length
            for text, sizes in survey.long_rows
        )

    low, high = image.factor**2, LARGEST_PIXELS
    if not fits(low):
        return None
    while high - low > image.factor**2 // 2:  # a picture gains a token per factor^2 pixels
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def cost_shares(survey: SplitSurvey, of: Rates, processor: Processor | None) -> dict[str, float]:
    """Of a prompt's forward, on average: operations, and the share of them that the pictures' ViT takes."""
    tokens = np.asarray(survey.tokens_K, dtype=np.float64)
    decoder = of.token * float(np.sum(tokens)) + of.pair * (float(np.sum(tokens**2)) / 2)
    merged = processor.family.patches_per_token if processor is not None else 0
    vision = sum(pictures_cost(of, [(1, tokens * merged, 1)]).vision for tokens in survey.image_tokens_K)
    total = decoder + vision
    count = max(1, len(survey.tokens_K))
    return {"operations_per_prompt": total / count, "vision_share": vision / total if total else 0.0}


def length_figures(
    survey: SplitSurvey, settings: PromptSettings, processor: Processor | None, of: Rates | None
) -> dict[str, Any]:
    """Everything about lengths, for the page and the file."""
    tokens = np.asarray(survey.tokens_K, dtype=np.int64)
    pictures = np.asarray(survey.image_tokens_K, dtype=np.int64)
    limit = settings.max_prompt_length
    return {
        "limit": limit,
        "too_long": int((tokens > limit).sum()),
        "mean": float(tokens.mean()) if len(tokens) else 0.0,
        "quantiles": quantiles(survey.tokens_K),
        "image_token_share": float(pictures.sum() / max(1, tokens.sum())),
        "pictures": len(survey.picture_N),
        "without_picture": len(survey.row_K) - len(set(survey.picture_row_N)),
        "histogram": histogram(survey.tokens_K, limit),
        "fitting_max_prompt_length": int(tokens.max()) if len(tokens) else None,
        "fitting_max_pixels": fitting_max_pixels(survey, settings, processor),
        **(cost_shares(survey, of, processor) if of is not None else {}),
    }
