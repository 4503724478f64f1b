"""An evaluation by protocol before anything is answered: what it reads, checks and writes down.

The questions are cut into chunks before the work is shared out, and only the chunk decides what runs
together. So an evaluation that was killed or shared out gives the same samples to the last byte.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from gmpo_vl.data.examples import ExampleSet
from gmpo_vl.data.images import decode_image
from gmpo_vl.data.rows import Columns, RowFaults
from gmpo_vl.data.templates import answer_place, load_template, template_names
from gmpo_vl.environments.loading import EnvironmentMaker
from gmpo_vl.evaluation.aggregates import check_columns
from gmpo_vl.evaluation.backends import BackendChoice, backend_facts, check_backend, chunk_of
from gmpo_vl.evaluation.chunks import chunk_size, count_of_chunks
from gmpo_vl.evaluation.environments import facts_of_games, load_section
from gmpo_vl.evaluation.grading import facts_of, reward_of
from gmpo_vl.evaluation.protocols import Protocol, override, renamed, template_file, template_rules
from gmpo_vl.evaluation.results import differing, in_words, versions
from gmpo_vl.models.loading import adapter_base, model_config
from gmpo_vl.models.processing import Processor, load_processor
from gmpo_vl.models.prompts import PromptSet, PromptSettings, load_prompts
from gmpo_vl.progress import quiet_libraries
from gmpo_vl.rewards.agreement import disagreement, rows_to_try
from gmpo_vl.rewards.loading import Reward
from gmpo_vl.rollout.episodes import first_turns
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.storage.files import write_json

Shard = tuple[int, int]  # (i, k): the i-th of k, counted from 1


@dataclass(frozen=True)
class Request:
    """What is to be evaluated.

    model: as it was named; folder: where it lies. source: data in the place of the protocol's. Where that is
    not known to be the same data, the result is named after it, and the protocol changes by `for_other_data`.
    """

    model: str
    folder: Path
    protocol: Protocol
    columns: Columns
    backend: BackendChoice
    source: str | None = None
    for_other_data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A protocol, its prompts for a model, what answers them, and what the results will state (plan.json).

    make: makes the rows' games, where the protocol has an environment.
    """

    protocol: Protocol
    prompts: PromptSet
    processor: Processor
    backend: BackendChoice
    plan: dict[str, Any]
    make: EnvironmentMaker | None = None

    @property
    def chunks(self) -> int:
        return count_of_chunks(self.plan)

    @cached_property
    def ids(self) -> list[str]:
        """Of all questions, in order."""
        return [name for name, _, _ in self.prompts.examples.texts()]

    def chunk(self, number: int) -> range:
        """The questions of a chunk."""
        size = chunk_size(self.plan)
        return range(self.plan["questions"])[number * size : (number + 1) * size]

    def shard(self, shard: Shard) -> range:
        """The chunks of a shard."""
        index, count = shard
        if not 1 <= index <= count:
            raise ValueError(
                f"--shard {index}/{count}: shards are numbered from 1/{count} to {count}/{count}"
            )
        return range(index - 1, self.chunks, count)

    def again(self) -> Callable[[], Prepared]:
        """What prepares the same in another process, here or where the same paths hold the same."""
        return partial(_prepare_again, self.plan, self.processor.folder, self.prompts.settings.columns)


def prepare(request: Request) -> Prepared:
    """Read and check everything that an evaluation needs, before anything is generated."""
    protocol, source, backend = request.protocol, request.source, request.backend
    model_config(request.folder)  # raises where the model cannot answer, before its rows are read
    check_backend(backend, request.folder)
    make = load_section(protocol.environment)
    reward = reward_of(protocol) if make is None else None
    processor, prompts = _load(protocol, request.folder, source or protocol.data, request.columns, make)
    template = _template_facts(protocol, prompts, reward) if make is None else _rules_of(protocol)
    if protocol.aggregate is not None:
        for example in prompts.examples:
            check_columns(protocol.aggregate, example.id, example.meta)
    data = _data_facts(protocol, source or protocol.data, prompts.examples)
    if source is not None and source != protocol.data and not data["pinned"]:
        protocol = override(protocol, request.for_other_data)
        protocol = renamed(protocol, {"data": Path(source).stem})
    questions = min(len(prompts), protocol.limit or len(prompts))
    chunk = chunk_of(backend, questions, protocol.n)
    plan = {
        "name": protocol.name,
        "protocol": protocol.stated(),
        "template": template,
        "questions": questions,
        "data": data,
        "model": {"path": request.model, "sha256": model_hash(request.folder)},
        "backend": backend_facts(backend),
        "versions": versions(),
        **({} if chunk is None else {"chunk": chunk}),
        **({} if reward is None else {"grader": facts_of(reward)}),
        **({} if make is None else {"environment": facts_of_games(make)}),
    }
    return Prepared(protocol, prompts, processor, backend, plan, make)


def _data_facts(protocol: Protocol, source: str, examples: ExampleSet) -> dict[str, Any]:
    digest = data_hash(examples, _hashed(protocol, len(examples)))
    facts: dict[str, Any] = {
        "source": source,
        "rows": len(examples),
        "sha256": digest,
        "pinned": None if protocol.data_sha256 is None else digest == protocol.data_sha256,
    }
    # Of a folder or hub id without @SPLIT the rows to train on are read, where names say which they are.
    read = (table.name.removeprefix(source) for table in examples.tables)
    if not protocol.benchmark and any(re.search(r"\btrain", name) for name in read):
        facts["split"] = "train"
    if faults := _faults_within(examples, protocol.limit):
        facts["bad_rows"] = faults.counts()
    return facts


def _hashed(protocol: Protocol, questions: int) -> int:
    """How many questions the data's hash covers: those that are asked. All of them where the protocol has a
    hash of the whole data, or where an asked question takes the picture of one that may not be asked."""
    if protocol.limit is None or protocol.data_sha256 is not None or protocol.pictures == "wrong":
        return questions
    return min(protocol.limit, questions)


def _template_facts(protocol: Protocol, prompts: PromptSet, reward: Reward | None) -> dict[str, Any]:
    """And where the answer is read. Raises ValueError where the reward reads it in another place than the
    prompts ask for."""
    rules, text = template_rules(protocol.template), prompts.settings.template
    place = rules.answer_in or (None if text is None else answer_place(text))
    rows = rows_to_try(len(prompts))
    asked = [(prompts.text(i), prompts.examples[i]) for i in rows]
    if place is None and not protocol.benchmark:
        places = {answer_place(prompt) for prompt, _ in asked}
        place = places.pop() if len(places) == 1 else None
    facts = {"name": protocol.template, "stop": rules.stop, "answer_in": place or "box"}
    if text is not None and protocol.format_prompt not in template_names():
        facts["format_prompt"] = text  # the file may change
    found = None if reward is None else disagreement(asked, reward)
    if found is not None and found.certain:
        raise ValueError(
            f"{found.said}. (In a protocol these keys are called format_prompt, grader and grader_options.)"
        )
    if found is not None or (reward is None and place is None and not protocol.benchmark):
        facts["unasked"] = True
    return facts


def _rules_of(protocol: Protocol) -> dict[str, Any]:
    """What a chat template comes with; where the answer of a turn is read is the game's own."""
    return {"name": protocol.template, "stop": template_rules(protocol.template).stop}


def _prepare_again(plan: dict[str, Any], folder: Path, columns: Columns) -> Prepared:
    """What `prepare` gave, in another process. The plan's hashes of model and data are taken as they are."""
    quiet_libraries()
    protocol = Protocol(**plan["protocol"])
    backend = BackendChoice(plan["backend"]["name"], plan["backend"].get("tensor_parallel", 1))
    make = load_section(protocol.environment)
    processor, prompts = _load(protocol, folder, plan["data"]["source"], columns, make)
    check_backend(backend, folder)
    return Prepared(protocol, prompts, processor, backend, plan, make)


def _load(
    protocol: Protocol, folder: Path, source: str, columns: Columns, make: EnvironmentMaker | None
) -> tuple[Processor, PromptSet]:
    """make: of games. The first turn of each is made, so that one that is broken or too long is a bad row."""
    processor = load_processor(folder, template_file(protocol.template))
    if protocol.system_prompt:
        processor = processor.with_system_prompt(protocol.system_prompt)
    skip = protocol.on_bad_row == "skip"
    settings = PromptSettings(
        columns,
        None if protocol.format_prompt is None else load_template(protocol.format_prompt),
        protocol.min_pixels,
        protocol.max_pixels,
        protocol.max_prompt_tokens,
        drop_overlong=skip or protocol.limit is not None,
        on_bad_row="skip" if skip or protocol.limit is not None else "error",
    )
    shown = None if make is None else partial(first_turns, make, run_seed=protocol.seed)
    prompts = load_prompts(source, settings, processor, shown)
    if not skip and protocol.limit is not None:
        faults = _faults_within(prompts.examples, protocol.limit)
        faults.settle("error", len(prompts), prompts.examples.columns.called)
    return processor, prompts


def _faults_within(examples: ExampleSet, limit: int | None) -> RowFaults:
    """Those of rows before the last of the `limit` questions."""
    if limit is None or limit > len(examples):
        return examples.faults
    table, row = examples.place(limit - 1)
    order = {name: number for number, name in enumerate(table.name for table in examples.tables)}
    last = order[table.name], row
    return RowFaults(fault for fault in examples.faults if (order[fault.file], fault.row) < last)


def open_evaluation(prepared: Prepared, place: Path) -> tuple[Prepared, EvaluationFolder]:
    """The evaluation's folder, new or begun, and the evaluation in the chunks that it was begun in.

    Raises ValueError where one was begun under another plan.
    """
    folder = EvaluationFolder(place).create()
    begun = folder.plan()
    if begun is None:
        write_json(folder.plan_file, prepared.plan)
        return prepared, folder
    chunk = {"chunk": chunk_size(begun)}
    if differences := differing(begun | chunk, prepared.plan | chunk):
        raise ValueError(
            f"{folder.folder} holds an evaluation with other settings: {in_words(differences)}. "
            "Give another --out, or delete that folder."
        )
    return replace(prepared, plan=prepared.plan | chunk), folder


def data_hash(examples: ExampleSet, count: int) -> str:
    """sha256 of the first `count` questions: problem, answer, `game` where there is one, and pictures (as
    pixels, however compressed)."""
    digest = hashlib.sha256()
    for example in islice(examples, count):
        texts = [example.problem, example.answer, *([example.game] if example.game else [])]
        digest.update(json.dumps(texts).encode())
        for source in example.images:
            image = decode_image(source)
            digest.update(repr(image.size).encode() + image.tobytes())
    return digest.hexdigest()


def model_hash(folder: Path) -> str:
    """sha256 of a model's weights, configuration and tokenizer by name, and of an adapter's base."""
    kinds = (".safetensors", ".json", ".jinja", ".txt", ".model")
    files = [path for path in sorted(folder.iterdir()) if path.suffix in kinds and path.is_file()]
    digest = _hash_of(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)).copy()
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = Path(adapter_base(folder))
        digest.update(model_hash(base).encode() if base.is_dir() else str(base).encode())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _hash_of(files: tuple[tuple[Path, int, int], ...]) -> hashlib._Hash:
    """Of files as they are (path, size, time). Kept: every protocol of a suite asks for the same model."""
    digest = hashlib.sha256()
    for path, *_ in files:
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest
