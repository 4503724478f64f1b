"""The rows' pictures against what a prompt may hold, and against the size that they are scaled up to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gmpo_vl.config import Config
from gmpo_vl.models.families.own import OwnFamily
from gmpo_vl.models.processing import Processor, encode_prompt
from gmpo_vl.models.prompts import prompt_settings
from gmpo_vl.preflight.data_check import CheckResult
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.preflight.survey import SplitSurvey
from gmpo_vl.rewards.agreement import rows_to_try
from gmpo_vl.types import Prompt

LIMIT_KEY = "worker.rollout.limit_images"


def check_pictures(config: Config, result: CheckResult, processor: Processor | None) -> Iterator[Finding]:
    if processor is not None and isinstance(processor.family, OwnFamily):
        yield from _own_processor(config, result, processor.family)
    # Engine local has no such limit, and what a game shows is not its row's (environment_check.py).
    if config.engine == "easyr1" and config.environment.name is None:
        yield from _check_limit(config.worker.rollout.limit_images, result)
    if config.data.min_pixels is not None and "train" in result.surveys:
        yield from _check_enlarged(config.data.min_pixels, result.surveys["train"])
    if config.algorithm.papo.kl_prcp_coef and "train" in result.surveys:
        yield from _check_masking(config, result, processor)


def _check_masking(config: Config, result: CheckResult, processor: Processor | None) -> Iterator[Finding]:
    survey, checker = result.surveys["train"], result.checkers["train"]
    if len(survey.picture_N) == 0:
        what = "PAPO compares answers with those to a masked picture, and no train row has one"
        yield Finding("error", "pictures", what, "algorithm.papo.kl_prcp_coef", "write 0")
    if processor is None:
        return
    usable = [row for row in dict.fromkeys(survey.picture_row_N) if row not in result.errors["train"]]
    s, rows = prompt_settings(config.data), [usable[i] for i in rows_to_try(len(usable))]
    how = processor, s.template, s.min_pixels, s.max_pixels, s.max_image_pixels
    what = whole_patches(config, [encode_prompt(checker.example(row), *how) for row in rows])
    if what is not None:
        change = "write a smaller one; the default is 14"
        yield Finding("warning", "pictures", what, "algorithm.papo.patch_size", change)


def whole_patches(config: Config, prompts: Sequence[Prompt]) -> str | None:
    """What is wrong where a patch of PAPO's mask covers whole pictures of these prompts, or None."""
    side = config.algorithm.papo.patch_size
    sizes = [tuple(image.shape[:2]) for prompt in prompts for image in prompt.images]
    covered = [size for size in sizes if side >= max(size)]
    if not covered:
        return None
    height, width = covered[0]
    return (
        f"PAPO's mask has patches of {side} x {side} pixels, and the model sees a picture of {width} x "
        f"{height}: {len(covered)} of the {len(sizes)} pictures that were tried are black as a whole or not "
        "at all"
    )


def _own_processor(config: Config, result: CheckResult, family: OwnFamily) -> Iterator[Finding]:
    """data.min_pixels and max_pixels are not the sizes that such a model sees."""
    data = config.data
    pictures = sum(len(survey.picture_N) for survey in result.surveys.values())
    if pictures and (data.min_pixels is not None or data.max_pixels is not None):
        what = (
            f"data.min_pixels and data.max_pixels scale a picture first; then the model's own "
            f"{family.processor_name} resizes, cuts or tiles it, whatever they say"
        )
        change = "null for both leaves sizes to it alone; `gmpo-vl data show` shows what the model then sees"
        yield Finding("note", "pictures", what, "data.min_pixels, data.max_pixels", change)


def _check_limit(limit: int, result: CheckResult) -> Iterator[Finding]:
    """vLLM ends a run at the first prompt with more pictures. 0: only vLLM's own limit, 999."""
    if limit == 0:
        return
    over = {split: _rows_over(limit, split, result) for split in result.surveys}
    most = max((count for rows in over.values() for _, count in rows), default=0)
    for split, rows in over.items():
        if not rows:
            continue
        number, count = rows[0]
        place, _ = result.checkers[split].read(number)
        what = f"{LIMIT_KEY} is {limit}, and {len(rows):,} {split} rows have more: vLLM refuses such a prompt"
        change = f"{LIMIT_KEY}={most}, or 0 for no limit"
        yield Finding("error", "pictures", what, f"{place} has {count}", change)


def _rows_over(limit: int, split: str, result: CheckResult) -> list[tuple[int, int]]:
    """(row, its pictures) of the rows that a run uses and that have too many."""
    numbers = np.array(result.surveys[split].picture_row_N, dtype=np.int64)
    rows, counts = np.unique(numbers, return_counts=True)
    return [
        (row, count)
        for row, count in zip(rows.tolist(), counts.tolist())
        if count > limit and row not in result.errors[split]
    ]


def _check_enlarged(min_pixels: int, survey: SplitSurvey) -> Iterator[Finding]:
    """Tokens that a picture's own pixels do not fill cost as much as others."""
    pictures, tokens = len(survey.picture_N), sum(survey.image_tokens_K)
    if 2 * survey.enlarged <= pictures:
        return
    scaled = (
        f"{survey.enlarged:,} of {pictures:,} train pictures are scaled up to data.min_pixels {min_pixels:,}"
    )
    before, now = (tokens - survey.added_tokens) / pictures, tokens / pictures
    yield Finding(
        "note",
        "pictures",
        f"{scaled}: on average {now:.0f} image tokens a picture, {before:.0f} as they are",
        "data.min_pixels",
        "a lower value, or null, makes prompts shorter; `gmpo-vl data show` shows what the model then sees",
    )
