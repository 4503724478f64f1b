"""Everything that can be known before a run, in the order in which a run would meet it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from gmpo_vl.batching.planning import Limits
from gmpo_vl.config import Config, notices
from gmpo_vl.data.rows import example_from_row
from gmpo_vl.data.sources import locate
from gmpo_vl.models.loading import load_for_inference, model_folder
from gmpo_vl.models.processing import Processor, encode_prompt, load_processor
from gmpo_vl.models.prompts import prompt_settings
from gmpo_vl.models.shared import sharing_obstacle
from gmpo_vl.preflight.answers import REWARD_KEY, check_reward, check_sight
from gmpo_vl.preflight.batches import check_batches
from gmpo_vl.preflight.data_check import CheckResult, check_data
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.preflight.job import job_of
from gmpo_vl.preflight.machine import USABLE, check_disk, check_memory, check_versions, device_memory
from gmpo_vl.preflight.model import check_model_class, check_template, check_tokens, check_weights
from gmpo_vl.preflight.pictures import check_pictures
from gmpo_vl.preflight.row_findings import ADVICE
from gmpo_vl.preflight.scan import useful_workers
from gmpo_vl.progress import phase_bar
from gmpo_vl.rewards.loading import Reward, load_reward
from gmpo_vl.sizing.cost import rates
from gmpo_vl.sizing.estimate import ModelSize, PromptLengths, estimate_easyr1, estimate_local, model_size
from gmpo_vl.sizing.fitting import Fitted
from gmpo_vl.sizing.gain import PROMPTS, gain_table
from gmpo_vl.types import Example

SAMPLES = 8  # rows that reward and pictures are tried on
# Where no row can be had the reward is tried on these.
CANNED = (Example("canned 1", "What is 1 + 1?", "2"), Example("canned 2", "What is 3 x 5?", "15"))
MODEL_KEY = "worker.actor.model.model_path"

Made = TypeVar("Made")
Looking = Generator[Finding, None, Made]  # findings on the way to what is made


@dataclass
class Examination:
    """What is examined, and what only an engine can say of it.

    limits_of: (model, longest prompt) -> the configuration fitted to memory; what a forward without and one with a backward
    may hold.
    refusals: what the engine itself says of the configuration.
    """

    config: Config
    out: Path
    limits_of: Callable[[ModelSize, PromptLengths], tuple[Fitted, Limits, Limits]]
    refusals: Sequence[Finding] = ()


@dataclass
class Model:
    """What there is of the model; None: it cannot be had. loads: its weights are whole."""

    folder: Path | None = None
    size: ModelSize | None = None
    processor: Processor | None = None
    loads: bool = False


def examine(e: Examination) -> Iterator[Finding]:
    """All findings. What cannot be read at all is one of them, and ends the checks that need it, no others."""
    config = e.config
    for notice in notices(config):
        yield Finding("note", "config", notice)
    yield from check_versions()
    model = yield from look_at_model(config)
    reward = yield from _attempt(
        lambda: load_reward(
            str(config.worker.reward.reward_function), config.worker.reward.reward_function_kwargs
        ),
        "reward",
        REWARD_KEY,
        "name a reward of this package, or FILE.py:FUNCTION",
    )
    result = yield from look_at_rows(e, model.processor, reward)
    train = result.surveys.get("train") if result is not None else None
    usable = train.rows - len(result.errors["train"]) if result is not None and train is not None else None
    yield from check_batches(config, usable, e.refusals)
    if model.size is not None:
        yield from _memory(e, model.size, model.processor, result if usable else None)
        if model.processor is not None and usable and result is not None:
            yield from _sharing(e, model.size, model.processor, result)
    yield from check_disk(config, model.size)
    examples = list(itertools.islice(_usable(result), SAMPLES)) if result is not None else []
    if reward is not None:
        yield from check_reward(reward, examples or CANNED)
    if model.loads and result is not None:
        yield from _sight(config, model, result)


def _attempt(make: Callable[[], Made], check: str, where: str, change: str) -> Looking[Made | None]:
    """What `make` gives; that it cannot is a finding. Files that others wrote make libraries raise anything."""
    try:
        return make()
    except Exception as error:
        said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        yield Finding("error", check, said, where, change)
        return None


def look_at_model(config: Config) -> Looking[Model]:
    """Folder, class, weights, tokenizer, templates, each as far as it can be had."""
    settings = config.worker.actor.model
    path, tokens_path = str(settings.model_path), str(settings.tokenizer_path or settings.model_path)
    folder = yield from _attempt(
        lambda: model_folder(path),
        "model",
        MODEL_KEY,
        "name the folder the model was downloaded to; what needs no model is checked all the same",
    )
    if folder is None:
        return Model()
    model = Model(folder)
    model.size = yield from _attempt(
        lambda: model_size(folder, **settings.override_config),
        "model",
        str(folder),
        "a folder as from_pretrained reads it: is config.json whole, and of a kind that this transformers knows?",
    )
    if model.size is not None:
        weights = list(check_weights(folder, model.size))
        yield from weights
        yield from check_model_class(config, model.size)
    processor = yield from _attempt(
        lambda: load_processor(model_folder(tokens_path), config.data.override_chat_template),
        "tokens",
        tokens_path,
        "tokenizer, chat template and image settings lie beside the weights; download the model again",
    )
    if processor is None:
        return model
    if model.size is not None:
        yield from check_tokens(processor, model.size)
        model.loads = all(finding.level != "error" for finding in weights)
    found = list(check_template(processor, config.data.format_prompt))
    yield from found
    if all(finding.level != "error" for finding in found):
        model.processor = processor
    return model


def look_at_rows(
    e: Examination, processor: Processor | None, reward: Reward | None
) -> Looking[CheckResult | None]:
    """Every row as `data check` looks at it. Without a processor (no model, or no template) no tokens are counted."""
    data = replace(
        e.config.data, format_prompt=e.config.data.format_prompt if processor is not None else None
    )
    job = replace(
        job_of(replace(e.config, data=data), with_model=False),
        model=str(processor.folder) if processor is not None else None,
        reward=e.config.worker.reward.reward_function if reward is not None else None,
    )
    result = yield from _attempt(
        lambda: _checked(e, job),
        "data",
        "data.train_files, data.val_files",
        "name files that can be read; `gmpo-vl data new` begins a mapping for other columns",
    )
    if result is not None:
        yield from about_rows(e, result)
        yield from check_pictures(e.config, result)
        if processor is None:
            yield Finding(
                "note", "data", "tokens were not counted: that needs the model's tokenizer and templates"
            )
    return result


def _checked(e: Examination, job) -> CheckResult:
    total = sum(len(table.rows) for checker in job.checkers().values() for table in checker.tables)
    with phase_bar("rows", total) as advance:
        return check_data(job, e.out, useful_workers(total, os.cpu_count() or 1), advance)


def about_rows(e: Examination, result: CheckResult) -> Iterator[Finding]:
    """The check's findings, a line a reason. Rows that the configuration leaves out by itself are no error."""
    data = e.config.data
    for reason, count in result.ordered():
        first = result.shown[reason][0]
        if first.level == "note":
            continue
        told = data.filter_overlong_prompts if reason == "prompt_too_long" else data.on_bad_row == "skip"
        left_out = first.level == "error" and told and reason != "gold_refused"
        drop = "" if first.level == "error" else f" --drop {reason}"
        yield Finding(
            "warning" if left_out else first.level,
            "data",
            f"{reason}: {count:,} rows{' (left out, as configured)' if left_out else ''}; {first.detail[:200]}",
            f"{first.file}, row {first.row} (id {first.id}); all of them in {e.out / 'rows.jsonl'}",
            f"{ADVICE.get(reason, 'mend the rows')}. A copy without them: gmpo-vl data check CONFIG --clean FOLDER{drop}",
        )
    rows = ", ".join(f"{split} {survey.rows:,}" for split, survey in result.surveys.items())
    yield Finding("ok", "data", f"{rows} rows looked at in {result.seconds:.0f} s")


def longest_of(result: CheckResult, processor: Processor, config: Config) -> PromptLengths:
    """The longest train prompt that is not left out, with the most pictures that one has."""
    fitting = prompt_lengths(result, processor, config)
    tokens = max((p.tokens for p in fitting), default=config.data.max_prompt_length)
    return PromptLengths(tokens, max((p.grids for p in fitting), default=()))


def prompt_lengths(result: CheckResult, processor: Processor, config: Config) -> list[PromptLengths]:
    """Of the train prompts that are not left out. Their pictures as one that has all their patches."""
    survey = result.surveys["train"]
    merged = processor.image.merge_size**2 if processor.image is not None else 1
    return [
        PromptLengths(tokens, ((1, images * merged, 1),) if images else ())
        for tokens, images in zip(survey.tokens_K, survey.image_tokens_K)
        if tokens <= config.data.max_prompt_length
    ]


def _memory(
    e: Examination, size: ModelSize, processor: Processor | None, result: CheckResult | None
) -> Iterator[Finding]:
    """The estimate at the longest prompt there is, or at the longest that may be where no row can be measured."""
    config, cuda = e.config, torch.cuda.is_available()
    if result is not None and processor is not None:
        longest = longest_of(result, processor, config)
    else:
        longest = PromptLengths(config.data.max_prompt_length)
        yield Finding(
            "note", "memory", "no prompt was measured: all are taken to have max_prompt_length tokens of text"
        )
    fitted, score, update = e.limits_of(size, longest)
    for reason in fitted.reasons:
        yield Finding("note", "memory", reason)
    if config.engine == "easyr1":
        free = device_memory()[1] if cuda else 0.0
        found = estimate_easyr1(config, size, longest, score, update, free)
    else:
        found = estimate_local(fitted.config, size, longest, score, update, cuda)
    here = config.engine == "local" or cuda
    yield from check_memory(found, device_memory() if here else None)


def _sharing(e: Examination, size: ModelSize, processor: Processor, result: CheckResult) -> Iterator[Finding]:
    """What a step gains from computing each picture and prompt once per group, where this model can."""
    actor = e.config.worker.actor
    if sharing_obstacle(size.config) is not None or actor.loss_type.startswith("easyr1/"):
        return
    prompts = prompt_lengths(result, processor, e.config)
    longest = longest_of(result, processor, e.config)
    limits = (replace(limits, share_prefix=True) for limits in e.limits_of(size, longest)[1:])
    chosen = prompts[:: -(-len(prompts) // PROMPTS)]
    table = "\n".join(gain_table(e.config, rates(size.config), chosen, *limits))
    if actor.share_prefix == "never":
        where, change = "worker.actor.share_prefix", "auto shares where it is proved and pays"
        yield Finding("note", "sharing", f"it is off; with it a step would take\n{table}", where, change)
    else:
        yield Finding("ok", "sharing", f"each picture and prompt once per group\n{table}")


def _usable(result: CheckResult, with_picture: bool = False) -> Iterator[Example]:
    """The train rows without an error, in their order; of those with pictures only."""
    if "train" not in result.checkers:
        return
    checker, survey = result.checkers["train"], result.surveys["train"]
    for number in dict.fromkeys(survey.picture_row_N) if with_picture else range(survey.rows):
        if number not in result.errors["train"]:
            table, row = locate(checker.tables, number)
            yield example_from_row(table.rows[row], checker.settings.columns, f"{table.label}:{row}")


def _sight(config: Config, model: Model, result: CheckResult) -> Looking[None]:
    pictured = next(_usable(result, with_picture=True), None)
    processor = model.processor
    if processor is None or processor.image is None or pictured is None:
        yield Finding("note", "sight", "no train row has a picture: nothing to look at")
        return
    assert model.size is not None
    name, free = device_memory()
    needed = model.size.parameters * (2 if torch.cuda.is_available() else 4)
    if needed > USABLE * free:
        what = f"not tried: the model does not fit on {name}"
        yield Finding("note", "sight", what, str(model.folder), "run the doctor on the GPU")
        return
    where = str(model.folder)
    loaded = yield from _attempt(
        lambda: load_for_inference(where),
        "weights",
        where,
        "a run would end like this: are config.json and the weights of the same model?",
    )
    if loaded is None:
        return
    s = prompt_settings(config.data)
    prompt = encode_prompt(pictured, processor, s.template, s.min_pixels, s.max_pixels, s.max_image_pixels)
    yield from check_sight(loaded, where, processor, prompt, pictured.answer)
