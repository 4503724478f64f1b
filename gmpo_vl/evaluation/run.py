"""An evaluation by protocol: plan, answer chunk by chunk, join. A killed one goes on where it was.

Chunks are cut from the whole list of questions before anything is sharded, and what runs together is decided by the chunk
alone: a run that was killed, or split over shards, gives the same samples to the last byte.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gmpo_vl.data.examples import ExampleSet
from gmpo_vl.data.images import decode_image
from gmpo_vl.data.rows import Columns
from gmpo_vl.data.templates import load_template
from gmpo_vl.evaluation.backends import Backend, backend_facts, cut_groups
from gmpo_vl.evaluation.evaluate import versions
from gmpo_vl.evaluation.grading import graded, grading_of
from gmpo_vl.evaluation.pictures import encoder
from gmpo_vl.evaluation.protocols import Protocol, renamed, stated, template_file, template_rules
from gmpo_vl.evaluation.summary import figures
from gmpo_vl.models.processing import Processor, load_processor
from gmpo_vl.models.prompts import PromptSet, PromptSettings, load_prompts
from gmpo_vl.rollout.types import Sampling
from gmpo_vl.runs import EvaluationFolder, store_image, write_json

Shard = tuple[int, int]  # (i, k): the i-th of k, counted from 1


@dataclass(frozen=True)
class Job:
    """A protocol, its prompts for a model, and what the results will state (`plan`, plan.json)."""

    protocol: Protocol
    prompts: PromptSet
    processor: Processor
    plan: dict[str, Any]

    @property
    def questions(self) -> int:
        return self.plan["questions"]

    @property
    def chunks(self) -> int:
        return -(-self.questions // self.protocol.chunk)

    def chunk(self, number: int) -> range:
        """The questions of a chunk."""
        size = self.protocol.chunk
        return range(number * size, min((number + 1) * size, self.questions))

    def shard(self, shard: Shard) -> range:
        """The chunks of a shard."""
        index, count = shard
        if not 1 <= index <= count:
            raise ValueError(
                f"--shard {index}/{count}: shards are numbered from 1/{count} to {count}/{count}"
            )
        return range(index - 1, self.chunks, count)


def prepare(model: str, folder: Path, protocol: Protocol, source: str | None, columns: Columns) -> Job:
    """Read and check everything that an evaluation needs, before anything is generated.

    model: as it was named; folder: where it lies. source: data other than the protocol's; where it is not known to be the
    same data, the result is named after it.
    """
    rules = template_rules(protocol.template)
    processor = load_processor(folder, template_file(protocol.template))
    prompts = load_prompts(source or protocol.data, _prompt_settings(protocol, columns), processor)
    digest = data_hash(prompts.examples)
    pinned = None if protocol.data_sha256 is None else digest == protocol.data_sha256
    if source is not None and source != protocol.data and not pinned:
        protocol = renamed(protocol, {"data": Path(source).stem})
    questions = min(len(prompts), protocol.limit or len(prompts))
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
        "backend": backend_facts(),
        "versions": versions(),
    }
    return Job(protocol, prompts, processor, plan)


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
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".jinja", ".txt", ".model") and path.is_file():
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = Path(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
        digest.update(model_hash(base).encode() if base.is_dir() else str(base).encode())
    return digest.hexdigest()


def open_folder(job: Job, out: Path) -> EvaluationFolder:
    """The evaluation's folder, new or begun. Raises ValueError where one was begun under another plan."""
    folder = EvaluationFolder(out / job.protocol.name)
    begun = folder.plan()
    if begun is None:
        folder.images.mkdir(parents=True, exist_ok=True)
        write_json(folder.plan_file, job.plan)
    elif differences := _differences(begun, job.plan):
        raise ValueError(
            f"{folder.folder} holds an evaluation with other settings: {'; '.join(differences)}. Give another --out, or "
            "delete that folder."
        )
    return folder


def _differences(begun: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What two plans differ in, in words; where a model or data set lies does not matter."""
    old, new = _leaves(begun), _leaves(wanted)
    keys = sorted((old.keys() | new.keys()) - {"model.path", "data.source"})
    return [
        f"{key} is {old.get(key)} there and {new.get(key)} now"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def answer_chunks(
    job: Job,
    folder: EvaluationFolder,
    load: Callable[[], Backend],
    shard: Shard = (1, 1),
    progress: Callable[[int], None] | None = None,
) -> None:
    """Answer and grade the chunks of a shard that are not there yet. The model is loaded when the first one needs it."""
    p, rules = job.protocol, template_rules(job.protocol.template)
    sampling = Sampling(p.n, p.max_tokens, p.temperature, p.top_p, p.top_k, p.seed)
    add_image = partial(store_image, folder.images)
    answer, encode = None, None
    done = set(folder.finished_chunks())
    for number in job.shard(shard):
        questions = job.chunk(number)
        if number in done:
            if progress is not None:
                progress(len(questions))
            continue
        start = time.perf_counter()
        answer, encode = answer or load(), encode or encoder(job.prompts, p.pictures)
        groups = answer(encode(questions), sampling, progress)
        groups = cut_groups(groups, job.processor.decode, p.max_model_len, rules.stop)
        records = graded(groups, grading_of(p), add_image)
        folder.write_chunk(number, records, time.perf_counter() - start)


def finish(folder: EvaluationFolder) -> dict[str, Any]:
    """Join the chunks and write results.json; returns it. Raises ValueError while chunks are missing."""
    plan = folder.plan()
    if plan is None:
        raise FileNotFoundError(f"{folder.folder} holds no evaluation: no plan.json")
    if not folder.finished:
        chunks = -(-plan["questions"] // plan["protocol"]["chunk"])
        missing = sorted(set(range(chunks)) - set(folder.finished_chunks()))
        if missing:
            raise ValueError(
                f"{folder.folder}: {len(missing)} of {chunks} chunks are missing (the first is {missing[0]}); run the same "
                "command again, or the shards that were not run"
            )
        folder.join_chunks()
        write_results(folder, plan)
    folder.remove_chunks()
    return folder.results()


def write_results(folder: EvaluationFolder, plan: dict[str, Any]) -> dict[str, Any]:
    """results.json from samples.jsonl: the figures, and everything they depend on."""
    results = {
        "name": plan["name"],
        **figures(list(folder.samples()), plan["protocol"]["n"]),
        "settings": plan["protocol"],
        **{key: plan[key] for key in ("template", "data", "model", "backend", "versions")},
        "notes": notes(plan),
    }
    write_json(folder.results_file, results)
    return results


def notes(plan: dict[str, Any]) -> list[str]:
    """Why this number may not be the protocol's, in sentences; empty where nothing is known against it."""
    p, data, said = plan["protocol"], plan["data"], []
    if "+" in plan["name"]:
        said.append(f"the protocol was changed: {plan['name'].partition('+')[2]}")
    if data["pinned"] is False:
        said.append("the data is not the protocol's (another sha256)")
    elif data["pinned"] is None:
        said.append(
            "the protocol's data could not be pinned: compare data.sha256 with that of the other result"
        )
    if p["questions"] is not None and data["rows"] != p["questions"]:
        said.append(f"the data has {data['rows']} questions, the protocol's {p['questions']}")
    if p["pictures"] != "as_is":
        said.append(f"a control: the pictures are {p['pictures']}")
    return said


def merge(folders: Sequence[Path]) -> dict[str, Any]:
    """Shards of one evaluation that ran in several places into the first folder, and finish it."""
    first, *others = [EvaluationFolder(folder) for folder in folders]
    plan = first.plan()
    if plan is None:
        raise FileNotFoundError(f"{first.folder} holds no evaluation: no plan.json")
    for other in others:
        if differences := _differences(plan, other.plan() or {}):
            raise ValueError(f"{other.folder} is no shard of {first.folder}: {'; '.join(differences)}")
        first.take_chunks(other)
    return finish(first)


def result_folders(paths: Sequence[Path]) -> Iterator[EvaluationFolder]:
    """Finished evaluations: each path is one, or a folder of some."""
    for path in paths:
        found = (
            [path]
            if (path / "results.json").exists()
            else sorted(p.parent for p in path.glob("*/results.json"))
        )
        if not found:
            raise FileNotFoundError(f"{path}: no finished evaluation here (no results.json)")
        yield from map(EvaluationFolder, found)
