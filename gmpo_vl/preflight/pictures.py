"""The rows' pictures against what a prompt may hold, and against the size that they are scaled up to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gmpo_vl.config import Config
from gmpo_vl.data.rows import example_from_row
from gmpo_vl.data.sources import locate
from gmpo_vl.preflight.data_check import CheckResult
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.preflight.survey import SplitSurvey

LIMIT_KEY = "worker.rollout.limit_images"


def check_pictures(config: Config, result: CheckResult) -> Iterator[Finding]:
    if config.engine == "easyr1":  # engine local has no such limit
        yield from _check_limit(config.worker.rollout.limit_images, result)
    if config.data.min_pixels is not None and "train" in result.surveys:
        yield from _check_enlarged(config.data.min_pixels, result.surveys["train"])


def _check_limit(limit: int, result: CheckResult) -> Iterator[Finding]:
    """vLLM ends a run at the first prompt with more pictures. 0: EasyR1 names no limit, and vLLM's own (999) is no matter."""
    if limit == 0:
        return
    over = {split: _rows_over(limit, split, result) for split in result.surveys}
    most = max((count for rows in over.values() for _, count in rows), default=0)
    for split, rows in over.items():
        if not rows:
            continue
        number, count = rows[0]
        checker = result.checkers[split]
        table, row = locate(checker.tables, number)
        example = example_from_row(table.rows[row], checker.settings.columns, f"{table.label}:{row}")
        yield Finding(
            "error",
            "pictures",
            f"{LIMIT_KEY} is {limit}, and {len(rows):,} {split} rows have more: vLLM refuses such a prompt",
            f"{table.name}, row {row} (id {example.id}) has {count}",
            f"{LIMIT_KEY}={most}, or 0 for no limit",
        )


def _rows_over(limit: int, split: str, result: CheckResult) -> list[tuple[int, int]]:
    """(row, its pictures) of the rows that a run uses and that have too many."""
    rows, counts = np.unique(
        np.array(result.surveys[split].picture_row_N, dtype=np.int64), return_counts=True
    )
    return [
        (row, count)
        for row, count in zip(rows.tolist(), counts.tolist())
        if count > limit and row not in result.errors[split]
    ]


def _check_enlarged(min_pixels: int, survey: SplitSurvey) -> Iterator[Finding]:
    """Tokens that a picture's own pixels do not fill cost as much as others. That of pictures made much smaller something may
    be lost, `data check` says of each."""
    pictures, tokens = len(survey.picture_N), sum(survey.image_tokens_K)
    if 2 * survey.enlarged <= pictures:
        return
    yield Finding(
        "note",
        "pictures",
        f"{survey.enlarged:,} of {pictures:,} train pictures are scaled up to data.min_pixels {min_pixels:,}: on average "
        f"{tokens / pictures:.0f} image tokens a picture, {(tokens - survey.added_tokens) / pictures:.0f} as they are",
        "data.min_pixels",
        "a lower value, or null, makes prompts shorter; `gmpo-vl data show` shows what the model then sees",
    )
