"""Everything that can be known before a run, in the order in which a run would meet it (`gmpo-vl doctor`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from gmpo_vl.config import Config, ConfigError, doubts, notices
from gmpo_vl.engines.going_on import goes_on
from gmpo_vl.engines.loggers import check_loggers
from gmpo_vl.engines.opening import run_of
from gmpo_vl.models.loading import load_for_inference, model_folder
from gmpo_vl.models.processing import Processor, encode_prompt, load_processor, prompt_text
from gmpo_vl.models.prompts import PromptSet, prompt_settings
from gmpo_vl.preflight.data_check import CheckResult, check_data
from gmpo_vl.preflight.environment_check import check_games
from gmpo_vl.preflight.findings import ADVICE, OF_A_SPLIT, Finding
from gmpo_vl.preflight.machine_check import check_disk, check_versions, device_memory
from gmpo_vl.preflight.model_check import (
    MODEL_KEY,
    check_ends,
    check_model_class,
    check_sight,
    check_template,
    check_tokens,
    check_weights,
)
from gmpo_vl.preflight.picture_check import check_pictures
from gmpo_vl.preflight.plan import measurements, switched_on
from gmpo_vl.preflight.reward_check import REWARD_KEY, WAYS, check_reward
from gmpo_vl.preflight.row_scan import data_to_check
from gmpo_vl.preflight.step_check import USABLE, check_batches, check_step, prompt_lengths
from gmpo_vl.rewards.agreement import disagreement, parts_as_asked, rows_to_try
from gmpo_vl.rewards.loading import Reward
from gmpo_vl.setup import (
    load_configured_environment,
    load_configured_reward,
    load_own_objective,
    load_split,
    named_parts,
    shared_rows,
    unknown_parts,
)
from gmpo_vl.sizing.parameters import ModelSize, model_size
from gmpo_vl.types import Example

SAMPLES = 8  # rows that reward and pictures are tried on
PART_CHANGE = "write one of the parts in brackets, or take a reward that returns the part"
# Where no row can be had the reward is tried on these.
CANNED = (Example("canned 1", "What is 1 + 1?", "2"), Example("canned 2", "What is 3 x 5?", "15"))

Made = TypeVar("Made")
Looking = Generator[Finding, None, Made]  # findings on the way to what is made


@dataclass
class Model:
    """What there is of the model; None: it cannot be had. loads: its weights are whole."""

    folder: Path | None = None
    size: ModelSize | None = None
    processor: Processor | None = None
    loads: bool = False


def examine(config: Config, out: Path) -> Iterator[Finding]:
    """All findings. What cannot be read at all is one of them, and ends the checks that need it, no others.

    out: folder for the files of `data check`.
    """
    for notice in notices(config):
        yield Finding("note", "config", notice)
    for doubt in doubts(config):
        yield Finding("warning", "config", doubt.what, "", doubt.change)
    change = "name other rows; a trial that shall only run can leave it"
    shared = yield from _attempt(lambda: shared_rows(config), "data", "data.val_files", change)
    for line in shared or ():
        yield Finding("warning", "data", line, "data.val_files", change)
    measured = measurements(config, f"up to {config.trainer.look_prompts:,} questions")
    for line in (*switched_on(config), *measured):
        yield Finding("ok", "config", line)
    yield from check_versions()
    model = yield from look_at_model(config)
    plays = config.environment.name is not None
    reward = None if plays else (yield from _reward(config))
    change = "its message says what it must do; docs/add/objective.md has an example"
    yield from _attempt(lambda: load_own_objective(config), "objective", "worker.actor.loss_type", change)
    result = yield from look_at_rows(config, out, model.processor, reward)
    train = result.surveys.get("train") if result is not None else None
    usable = train.rows - len(result.errors["train"]) if result is not None and train is not None else None
    yield from check_batches(config, usable or None)  # that there is none is said of the rows
    if model.size is not None:
        prompts, patches = None, 0
        if model.processor is not None and plays:  # any later turn may show pictures
            patches = model.processor.family.patches_per_token
        elif model.processor is not None and usable and result is not None:
            prompts = prompt_lengths(result, model.processor, config)
        yield from check_step(config, model.size, prompts, patches)
    yield from check_disk(config, model.size)
    if model.processor is not None and usable:
        yield from _begun(config, model.processor)
    change = "it says what to install; or leave it out of trainer.logger"
    loggers = yield from _attempt(lambda: check_loggers(config), "loggers", "trainer.logger", change)
    for line in loggers or ():
        yield Finding("warning", "loggers", line, "trainer.logger", "before the run, on its machine")
    examples = list(itertools.islice(_usable(result), SAMPLES)) if result is not None else []
    turns = (yield from check_games(config, examples, model.processor)) if plays else []
    if reward is not None and not reward.asks_endpoint:
        found = list(check_reward(reward, examples or CANNED))
        yield from found
        sound = all(finding.level != "error" for finding in found)
        if sound and named_parts(config.algorithm):
            yield from _parts(config, reward, examples or CANNED)
        if sound and result is not None and model.processor is not None:
            yield from _agreement(model.processor, result, reward)
    if model.loads and result is not None:
        pictured = (turn for turn in turns if turn.images) if plays else _usable(result, with_picture=True)
        what = f"first turn of {len(turns)} train rows" if plays else "train row"
        yield from _sight(config, model, next(pictured, None), what)


def _attempt(make: Callable[[], Made], check: str, where: str, change: str) -> Looking[Made | None]:
    """What `make` gives. An error is a finding: on files that others wrote, libraries raise anything."""
    try:
        return make()
    except Exception as error:
        said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        yield Finding("error", check, said, where, change)
        return None


def _reward(config: Config) -> Looking[Reward | None]:
    def load() -> Reward | ConfigError:
        try:
            return load_configured_reward(config)
        except ConfigError as error:  # the reward is there; a key names a part that it does not have
            return error

    change = "name a reward of this package, or FILE.py:FUNCTION"
    loaded = yield from _attempt(load, "reward", REWARD_KEY, change)
    if not isinstance(loaded, ConfigError):
        return loaded
    key, _, what = str(loaded).partition(": ")
    yield Finding("error", "reward", what, key, PART_CHANGE)


def look_at_model(config: Config) -> Looking[Model]:
    """Folder, class, weights, tokenizer, templates, each as far as it can be had."""
    settings = config.worker.actor.model
    path, tokens_path = str(settings.model_path), str(settings.tokenizer_path or settings.model_path)
    change = "name the folder the model was downloaded to; what needs no model is checked all the same"
    folder = yield from _attempt(lambda: model_folder(path), "model", MODEL_KEY, change)
    if folder is None:
        return Model()
    model = Model(folder)
    model.size = yield from _attempt(
        lambda: model_size(folder, **settings.override_config),
        "model",
        str(folder),
        "a folder as from_pretrained reads it: is config.json whole, and of a kind that this "
        "transformers knows?",
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
        if model.loads:
            yield from check_ends(config, processor)
    found = list(check_template(processor, config.data.format_prompt))
    yield from found
    if model.size is not None and all(finding.level != "error" for finding in found):
        model.processor = processor
    return model


def look_at_rows(
    config: Config, out: Path, processor: Processor | None, reward: Reward | None
) -> Looking[CheckResult | None]:
    """Every row as `data check` looks at it. Without a processor no tokens are counted."""
    template = config.data.format_prompt if processor is not None else None
    of = replace(config, data=replace(config.data, format_prompt=template))
    data = replace(
        data_to_check(of, with_model=False),
        model=str(processor.folder) if processor is not None else None,
        reward=config.worker.reward.reward_function if reward is not None else None,
        first_turns=False,  # check_games makes some
    )
    where = "data.train_files, data.val_files"
    change = "name files that can be read; `gmpo-vl data new` begins a mapping for other columns"
    result = yield from _attempt(lambda: check_data(data, out), "data", where, change)
    if result is not None:
        yield from _about_rows(config, out, result)
        yield from check_pictures(config, result, processor)
        if processor is None:
            what = "tokens were not counted: that needs the model's tokenizer and templates"
            yield Finding("note", "data", what)
    return result


def _about_rows(config: Config, out: Path, result: CheckResult) -> Iterator[Finding]:
    """The check's findings, a line a reason. Rows that the configuration leaves out are no error."""
    data, broken = config.data, False
    for reason, count in result.ordered():
        first = result.shown[reason][0]
        if first.level == "note" or reason in OF_A_SPLIT:  # `_agreement` tells of these
            continue
        told = data.filter_overlong_prompts if reason == "prompt_too_long" else data.on_bad_row == "skip"
        left_out = first.level == "error" and told and reason not in ("gold_refused", "wrong_choice_passes")
        broken = broken or (first.level == "error" and not left_out)
        drop = "" if first.level == "error" else f" --drop {reason}"
        rows = f"{count:,} rows{' (left out, as configured)' if left_out else ''}"
        copy = f"A copy without them: gmpo-vl data check CONFIG --clean FOLDER{drop}"
        yield Finding(
            "warning" if left_out else first.level,
            "data",
            f"{reason}: {rows}; {first.what[:200]}",
            f"{first.where}; all of them in {out / 'rows.jsonl'}",
            f"{ADVICE.get(reason, 'mend the rows')}. {copy}",
        )
    for split, survey in result.surveys.items():
        if survey.rows == len(result.errors[split]) and not broken:
            key = "data.train_files" if split == "train" else "data.val_files"
            what = f"{split}: not one of its {survey.rows:,} rows can be used"
            yield Finding("error", "data", what, key, "mend what the lines above name, or name other data")
    rows = ", ".join(f"{split} {survey.rows:,}" for split, survey in result.surveys.items())
    yield Finding("ok", "data", f"{rows} rows looked at in {result.seconds:.0f} s")


def _usable(result: CheckResult, with_picture: bool = False) -> Iterator[Example]:
    """The train rows without an error, in their order; of those with pictures only."""
    if "train" not in result.checkers:
        return
    checker, survey = result.checkers["train"], result.surveys["train"]
    for number in dict.fromkeys(survey.picture_row_N) if with_picture else range(survey.rows):
        if number not in result.errors["train"]:
            yield checker.example(number)


def _begun(config: Config, processor: Processor) -> Iterator[Finding]:
    """Where a run that lies in the folder already would go on. Only then are rows loaded as it loads them."""

    def load_train() -> PromptSet:
        make = load_configured_environment(config)
        try:
            return load_split(config, config.data.train_files, processor, make)
        finally:
            if make is not None:
                make.close()

    change = "as the message says, or give the new run another trainer.experiment_name"
    folder = str(run_of(config).folder)
    lines = yield from _attempt(lambda: goes_on(config, load_train), "run", folder, change)
    for line in lines or ():
        yield Finding("note", "run", line, folder)


def _agreement(processor: Processor, result: CheckResult, reward: Reward) -> Iterator[Finding]:
    """Do the prompts of each split ask for the answer where the reward reads it?"""
    for split, checker in result.checkers.items():
        numbers = [n for n in range(result.surveys[split].rows) if n not in result.errors[split]]
        examples = [checker.example(numbers[i]) for i in rows_to_try(len(numbers))]
        template = checker.settings.template
        found = disagreement([(prompt_text(e, processor, template), e) for e in examples], reward)
        if found is not None:
            level, where = "error" if found.certain else "note", f"data.format_prompt, {REWARD_KEY}"
            yield Finding(level, "agreement", f"{split}: {found.what}", where, found.change)


def _parts(config: Config, reward: Reward, examples: Sequence[Example]) -> Iterator[Finding]:
    """Do scores have the parts that are named? Of a built-in reward that is known when it is loaded."""
    parts = dict.fromkeys(part for form in WAYS for part in parts_as_asked(form, examples, reward))
    problem = unknown_parts(config.algorithm, parts)
    if parts and problem:
        what = f"{problem}; right and wrong answers to {len(examples)} rows were tried"
        where = ", ".join(dict.fromkeys(key for key, _ in named_parts(config.algorithm)))
        yield Finding("warning", "reward", what, where, PART_CHANGE)


def _sight(config: Config, model: Model, pictured: Example | None, what: str) -> Looking[None]:
    """what: the kind of prompt that was looked through for one with a picture."""
    processor = model.processor
    if processor is None or not processor.sees or pictured is None:
        yield Finding("note", "sight", f"no {what} has a picture: nothing to look at")
        return
    assert model.size is not None
    where, (name, free) = str(model.folder), device_memory()
    needed = model.size.parameters * (2 if torch.cuda.is_available() else 4)
    if needed > USABLE * free:
        what = f"not tried: the model does not fit on {name}"
        yield Finding("note", "sight", what, where, "run the doctor on the GPU")
        return
    change = "a run would end like this: are config.json and the weights of the same model?"
    loaded = yield from _attempt(lambda: load_for_inference(where), "weights", where, change)
    if loaded is None:
        return
    s = prompt_settings(config.data)

    def look() -> list[Finding]:
        how = s.template, s.min_pixels, s.max_pixels, s.max_image_pixels
        prompt = encode_prompt(pictured, processor, *how)
        return list(check_sight(loaded, where, processor, prompt, pictured.answer))

    change = (
        "a run would end like this: are config.json, preprocessor_config.json, processor_config.json and the "
        "tokenizer's files those of these weights? They say how many tokens a picture is"
    )
    yield from (yield from _attempt(look, "sight", where, change)) or ()
