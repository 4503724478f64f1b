"""An evaluation by protocol: plan, answer chunk by chunk, join. A killed one goes on where it was.

Chunks are cut from the whole list of questions before anything is sharded, and what runs together is decided by the chunk
alone: a run that was killed, or split over shards, gives the same samples to the last byte.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from gmpo_vl.data.examples import ExampleSet
from gmpo_vl.data.images import decode_image
from gmpo_vl.data.rows import Columns
from gmpo_vl.data.templates import load_template
from gmpo_vl.evaluation.backends import (
    Backend,
    BackendChoice,
    backend_facts,
    check_backend,
    chunk_of,
    cut_groups,
    load_backend,
)
from gmpo_vl.evaluation.chunks import chunk_size, count_of_chunks, sound_chunks
from gmpo_vl.evaluation.grading import graded, grading_of
from gmpo_vl.evaluation.in_memory import versions
from gmpo_vl.evaluation.pictures import encoder
from gmpo_vl.evaluation.protocols import Protocol, override, renamed, stated, template_file, template_rules
from gmpo_vl.evaluation.results import differing
from gmpo_vl.models.loading import adapter_base
from gmpo_vl.models.processing import Processor, load_processor
from gmpo_vl.models.prompts import PromptSet, PromptSettings, load_prompts
from gmpo_vl.rollout.scoring import pictures_kept
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import store_image
from gmpo_vl.storage.files import write_json
from gmpo_vl.types import Sampling

Shard = tuple[int, int]  # (i, k): the i-th of k, counted from 1


@dataclass(frozen=True)
class Job:
    """A protocol, its prompts for a model, what answers them, and what the results will state (`plan`, plan.json)."""

    protocol: Protocol
    prompts: PromptSet
    processor: Processor
    backend: BackendChoice
    plan: dict[str, Any]

    @property
    def questions(self) -> int:
        return self.plan["questions"]

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
        return range(number * size, min((number + 1) * size, self.questions))

    def shard(self, shard: Shard) -> range:
        """The chunks of a shard."""
        index, count = shard
        if not 1 <= index <= count:
            raise ValueError(
                f"--shard {index}/{count}: shards are numbered from 1/{count} to {count}/{count}"
            )
        return range(index - 1, self.chunks, count)


def prepare(
    model: str,
    folder: Path,
    protocol: Protocol,
    source: str | None,
    columns: Columns,
    backend: BackendChoice,
    for_other_data: Mapping[str, Any] | None = None,
) -> Job:
    """Read and check everything that an evaluation needs, before anything is generated.

    model: as it was named; folder: where it lies. source: data other than the protocol's; where it is not known to be the
    same data, the result is named after it, and the fields `for_other_data` of the protocol take these values.
    """
    check_backend(backend, folder)
    rules = template_rules(protocol.template)
    processor = load_processor(folder, template_file(protocol.template))
    prompts = load_prompts(source or protocol.data, _prompt_settings(protocol, columns), processor)
    digest = data_hash(prompts.examples)
    pinned = None if protocol.data_sha256 is None else digest == protocol.data_sha256
    if source is not None and source != protocol.data and not pinned:
        protocol = override(protocol, for_other_data or {})
        protocol = renamed(protocol, {"data": Path(source).stem})
    questions = min(len(prompts), protocol.limit or len(prompts))
    chunk = chunk_of(backend, questions, protocol.n)
    plan = {
        "name": protocol.name,
        "protocol": stated(protocol),
        "template": {"name": protocol.template, "stop": rules.stop, "answer_in": rules.answer_in},
        "questions": questions,
        "data": {
            "source": source or protocol.data,
            "rows": len(prompts),
            "sha256": digest,
            "pinned": pinned,
        },
        "model": {"path": model, "sha256": model_hash(folder)},
        "backend": backend_facts(backend),
        "versions": versions(),
        **({} if chunk is None else {"chunk": chunk}),
    }
    return Job(protocol, prompts, processor, backend, plan)


def job_of(plan: dict[str, Any], folder: Path, columns: Columns) -> Job:
    """The job that `prepare` made, in another process: what the plan says of model and data is not found out again."""
    protocol = Protocol(**plan["protocol"])
    processor = load_processor(folder, template_file(protocol.template))
    prompts = load_prompts(plan["data"]["source"], _prompt_settings(protocol, columns), processor)
    backend = BackendChoice(plan["backend"]["name"], plan["backend"].get("tensor_parallel", 1))
    check_backend(backend, folder)
    return Job(protocol, prompts, processor, backend, plan)


def _prompt_settings(protocol: Protocol, columns: Columns) -> PromptSettings:
    return PromptSettings(
        columns,
        None if protocol.format_prompt is None else load_template(protocol.format_prompt),
        protocol.min_pixels,
        protocol.max_pixels,
        protocol.max_prompt_tokens,
        drop_overlong=False,
    )


def data_hash(examples: ExampleSet) -> str:
    """sha256 of every question's problem, answer and pictures (as pixels: however they are compressed), in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.problem, example.answer]).encode())
        for source in example.images:
            image = decode_image(source)
            digest.update(repr(image.size).encode() + image.tobytes())
    return digest.hexdigest()


def model_hash(folder: Path) -> str:
    """sha256 over names and contents of a model's weights, configuration and tokenizer (an adapter's base included)."""
    kinds = (".safetensors", ".json", ".jinja", ".txt", ".model")
    files = [path for path in sorted(folder.iterdir()) if path.suffix in kinds and path.is_file()]
    digest = _hash_of(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)).copy()
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = Path(adapter_base(folder))
        digest.update(model_hash(base).encode() if base.is_dir() else str(base).encode())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _hash_of(files: tuple[tuple[Path, int, int], ...]) -> Any:
    """Of files as they are (path, size, time): a suite's protocols ask about the same model."""
    digest = hashlib.sha256()
    for path, *_ in files:
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest


def open_folder(job: Job, place: Path) -> tuple[Job, EvaluationFolder]:
    """The evaluation's folder, new or begun, and the job in the chunks that it was begun in.

    Raises ValueError where one was begun under another plan.
    """
    folder = EvaluationFolder(place).create()
    begun = folder.plan()
    if begun is None:
        write_json(folder.plan_file, job.plan)
        return job, folder
    chunk = {"chunk": chunk_size(begun)}
    if differences := differing(begun | chunk, job.plan | chunk):
        raise ValueError(
            f"{folder.folder} holds an evaluation with other settings: {'; '.join(differences)}. Give another --out, or "
            "delete that folder."
        )
    return replace(job, plan=job.plan | chunk), folder


class Answerer:
    """Answers and grades one chunk after the other. The model is loaded when the first one needs it."""

    def __init__(self, job: Job):
        self.job = job
        self._answer: Backend | None = None
        self._encode = None

    def write(
        self, number: int, folder: EvaluationFolder, progress: Callable[[int], None] | None = None
    ) -> None:
        """Answer a chunk into the folder. progress is told of questions answered."""
        job, p = self.job, self.job.protocol
        start = time.perf_counter()
        self._answer = self._answer or self._load()
        self._encode = self._encode or encoder(job.prompts, p.pictures)
        sampling = Sampling(p.n, p.max_tokens, p.temperature, p.top_p, p.top_k, p.seed)
        prompts = self._encode(job.chunk(number))
        with pictures_kept(prompts, partial(store_image, folder.images)) as pictures:
            groups = self._answer(prompts, sampling, progress)
            stop = template_rules(p.template).stop
            groups = cut_groups(groups, job.processor.decode, p.max_model_len, stop)
            records = graded(groups, grading_of(job.plan["protocol"]), pictures)
        folder.write_chunk(number, records, time.perf_counter() - start)

    def _load(self) -> Backend:
        p, processor = self.job.protocol, self.job.processor
        most = max((len(example.images) for example in self.job.prompts.examples), default=0)
        tokens = p.max_prompt_tokens + p.max_tokens
        return load_backend(self.job.backend, processor.folder, processor, tokens, most)


def answer_chunks(
    job: Job,
    folder: EvaluationFolder,
    shard: Shard = (1, 1),
    progress: Callable[[int], None] | None = None,
) -> None:
    """Answer the chunks of a shard that are not there yet, or not as they should be."""
    answerer = Answerer(job)
    done = sound_chunks(folder, job.plan, job.shard(shard), job.ids)
    for number in job.shard(shard):
        if number not in done:
            answerer.write(number, folder, progress)
        elif progress is not None:
            progress(len(job.chunk(number)))
