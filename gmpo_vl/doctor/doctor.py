"""Everything that can be known before a run, in the order in which a run would meet it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gmpo_vl.batching.memory import Estimate
from gmpo_vl.batching.planning import Limits
from gmpo_vl.check.check import CheckResult, check_data
from gmpo_vl.check.job import Job, job_of
from gmpo_vl.check.scan import useful_workers
from gmpo_vl.config import Config, notices
from gmpo_vl.data.rows import example_from_row
from gmpo_vl.data.sources import locate
from gmpo_vl.data.types import Example
from gmpo_vl.doctor.answers import check_reward, check_sight
from gmpo_vl.doctor.batches import check_batches
from gmpo_vl.doctor.findings import Finding
from gmpo_vl.doctor.machine import USABLE, check_disk, check_memory, check_versions, device_memory
from gmpo_vl.doctor.memory import Longest, ModelSize, estimate_easyr1, estimate_local, model_size
from gmpo_vl.doctor.model import check_model_class, check_template, check_tokens, check_weights
from gmpo_vl.models.loading import model_folder
from gmpo_vl.models.processing import Processor, encode_prompt
from gmpo_vl.rewards.loading import load_reward

SAMPLES = 8  # rows that reward and pictures are tried on
LimitsOf = Callable[[int], Limits]


@dataclass
class Examination:
    """What the checks share once it is known."""

    config: Config
    out: Path
    limits_of: LimitsOf  # what one forward of engine and configuration may hold, from its micro-batch size
    refusals: Sequence[str] = ()  # what the engine itself says of the configuration
    progress: Callable[[int], None] | None = None


def examine(e: Examination) -> Iterator[Finding]:
    """All findings. What cannot be read at all is one of them, and ends the checks that need it."""
    for notice in notices(e.config):
        yield Finding("note", "config", notice)
    yield from check_versions()
    try:
        model = e.config.worker.actor.model
        folder = model_folder(str(model.model_path))
        size = model_size(folder, **model.override_config)
        job = job_of(e.config)
        processor = job.processor()
    except (ValueError, OSError, KeyError) as error:
        yield Finding(
            "error", "model", str(error), "worker.actor.model.model_path", "name a folder that holds a model"
        )
        return
    weights = list(check_weights(folder, size))
    yield from weights
    yield from check_model_class(e.config, size)
    yield from check_tokens(processor, size)
    yield from check_template(processor, job.settings.template)
    try:
        result = check_rows(e, job)
    except (ValueError, OSError) as error:
        yield Finding(
            "error", "data", str(error), "data.train_files, data.val_files", "name files that can be read"
        )
        return
    yield from about_rows(e, result)
    train = result.surveys.get("train")
    usable = 0 if train is None else train.rows - len(result.errors["train"])
    yield from check_batches(e.config, usable, e.refusals)
    if usable:
        found = _estimate(e.config, size, longest_of(result, processor, e.config), e.limits_of)
        here = e.config.engine == "local" or torch.cuda.is_available()
        yield from check_memory(found, device_memory() if here else None)
    yield from check_disk(e.config, size)
    examples = list(itertools.islice(_usable(result), SAMPLES))
    yield from check_reward(load_reward(str(job.reward), job.reward_kwargs), examples)
    if all(finding.level != "error" for finding in weights):
        yield from _sight(folder, size, processor, job, examples)


def check_rows(e: Examination, job: Job) -> CheckResult:
    total = sum(len(table.rows) for checker in job.checkers().values() for table in checker.tables)
    return check_data(job, e.out, useful_workers(total, os.cpu_count() or 1), e.progress)


def about_rows(e: Examination, result: CheckResult) -> Iterator[Finding]:
    """The check's findings, a line a reason. Rows that the configuration leaves out by itself are no error."""
    data = e.config.data
    for reason, count in result.ordered():
        first = result.shown[reason][0]
        if first.level == "note":
            continue
        told = data.filter_overlong_prompts if reason == "prompt_too_long" else data.on_bad_row == "skip"
        left_out = first.level == "error" and told and reason != "gold_refused"
        yield Finding(
            "warning" if left_out else first.level,
            "data",
            f"{reason}: {count:,} rows{' (left out, as configured)' if left_out else ''}; {first.detail[:200]}",
            f"{first.file}, row {first.row} (id {first.id}); all of them in {e.out / 'rows.jsonl'}",
            "mend the rows, or take the copy that `gmpo-vl data check --clean FOLDER` writes",
        )
    rows = ", ".join(f"{split} {survey.rows:,}" for split, survey in result.surveys.items())
    yield Finding("ok", "data", f"{rows} rows looked at in {result.seconds:.0f} s")


def longest_of(result: CheckResult, processor: Processor, config: Config) -> Longest:
    """The longest train prompt that is not left out. Of its pictures only the number of patches matters."""
    survey = result.surveys["train"]
    limit = config.data.max_prompt_length
    fitting = [(t, i) for t, i in zip(survey.tokens_K, survey.image_tokens_K) if t <= limit]
    tokens = max((t for t, _ in fitting), default=limit)
    merged = processor.image.merge_size**2 if processor.image is not None else 1
    patches = max((i for _, i in fitting), default=0) * merged
    return Longest(tokens, ((1, patches, 1),) if patches else ())


def _estimate(config: Config, size: ModelSize, longest: Longest, limits_of: LimitsOf) -> Estimate:
    actor = config.worker.actor
    score = limits_of(actor.micro_batch_size_per_device_for_experience)
    update = limits_of(actor.micro_batch_size_per_device_for_update)
    cuda = torch.cuda.is_available()
    if config.engine == "easyr1":
        return estimate_easyr1(config, size, longest, score, update, device_memory()[1] if cuda else 0.0)
    return estimate_local(config, size, longest, score, update, cuda)


def _usable(result: CheckResult) -> Iterator[Example]:
    """The first train rows without an error."""
    if "train" not in result.checkers:
        return
    checker = result.checkers["train"]
    for number in range(result.surveys["train"].rows):
        if number not in result.errors["train"]:
            table, row = locate(checker.tables, number)
            yield example_from_row(table.rows[row], checker.settings.columns, f"{table.label}:{row}")


def _sight(
    folder: Path, size: ModelSize, processor: Processor, job: Job, examples: list[Example]
) -> Iterator[Finding]:
    pictured = next((example for example in examples if example.images), None)
    if processor.image is None or pictured is None:
        yield Finding("note", "sight", "no picture among the first rows: nothing to look at")
        return
    name, free = device_memory()
    needed = size.parameters * (2 if torch.cuda.is_available() else 4)
    if needed > USABLE * free:
        yield Finding(
            "note",
            "sight",
            f"not tried: the model does not fit on {name}",
            str(folder),
            "run the doctor on the GPU",
        )
        return
    s = job.settings
    prompt = encode_prompt(pictured, processor, s.template, s.min_pixels, s.max_pixels)
    yield from check_sight(str(folder), processor, prompt, pictured.answer)
