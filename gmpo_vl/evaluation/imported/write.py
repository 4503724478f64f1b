"""A harness's answers, graded and written as a result that `eval page`, `compare` and `regrade` read."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from gmpo_vl.data.rows import Columns, Fault, RowError, RowFaults
from gmpo_vl.evaluation.aggregates import AGGREGATES, check_columns
from gmpo_vl.evaluation.benchmarks import BENCHMARKS
from gmpo_vl.evaluation.grading import BATCH, Grader, facts_of, grader_of, regrade, reward_of_name
from gmpo_vl.evaluation.imported.joined import OTHERS, Joined
from gmpo_vl.evaluation.imported.rows import ERROR_TEXTS, ImportedRow, Reader
from gmpo_vl.evaluation.imported.vlmevalkit import rotations
from gmpo_vl.evaluation.protocols import PROFILES, Protocol
from gmpo_vl.evaluation.results import differing, in_words, versions, write_protocol_results
from gmpo_vl.rewards.loading import Reward, built_in_rewards
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import OFFICIAL, SampleRecord, samples_replaced
from gmpo_vl.storage.files import names_a_folder, write_json
from gmpo_vl.verify import parse_gold

# How answers are read, where no export of ours says it: the prompts may name no place.
_READ = {"template": "imported", "answer_in": "any", "benchmark": ""}
# What is known when the rows were read, of `imported` in a plan.
_FOUND = (
    *("left_out", "first_left_out", "unjudged", "unboxed", "cut", "failed", "rotated", "joined_by"),
    "doc_hash",
)
_ASKS_A_SERVER = "judge"


@dataclass(frozen=True)
class Import:
    """What is imported, and how it is graded. name: of the result, with `-imported` behind it; by default the
    task's. data: rows to join. grader: None is the one that an export of ours states, else strict. official:
    as in `open_answers`. protocol: whose rows were asked; by its aggregate our verdicts and the harness's are
    counted, and `data` is then needed."""

    file: Path
    name: str | None = None
    data: str | None = None
    columns: Columns = field(default_factory=Columns)
    grader: str | None = None
    grader_options: dict[str, Any] = field(default_factory=dict)
    official: str | None = None
    protocol: Protocol | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a protocol whose answers no harness's file holds, or which has no data; and
        for options that nothing takes."""
        if self.grader_options and self.grader in (None, *PROFILES):
            raise ValueError(
                f"--grader-options are a reward's, and the grader {self.grader or 'strict'} takes none: name "
                "a reward with --grader"
            )
        if self.protocol is not None and self.protocol.environment:
            raise ValueError(f"--protocol {self.protocol.name}: games are played there, not answered")
        if self.protocol is not None and self.data is None:
            raise ValueError(f"--protocol {self.protocol.name} counts by columns of its data: give --data")


def result_name(request: Import, reader: Reader) -> str:
    """`mathvista_testmini-imported`: nobody can take it for a protocol's."""
    usual = re.sub(r"[^\w.-]+", "-", str(reader.facts["task"]))[:80].strip("-.")
    name = usual if request.name is None else request.name
    name = f"{name.removesuffix('-imported')}-imported"
    if request.name == "" or not names_a_folder(name) or name != Path(name).name:
        raise ValueError(f"--name {request.name!r}: no folder can be called so")
    return name


def grader_named(request: Import, reader: Reader) -> tuple[str, dict[str, Any]]:
    """(grader, its options). An export's own is taken where it is built in and asks no server: what a file
    says is never code to run, nor an address to call. Raises ValueError where it has another one."""
    stated, options = reader.facts.get("grader"), reader.facts.get("grader_options") or {}
    if request.grader is not None or stated is None:
        return request.grader or "strict", request.grader_options
    if stated not in (*PROFILES, *built_in_rewards()) or stated == _ASKS_A_SERVER:
        raise ValueError(
            f"{request.file} was graded by {stated!r:.80}, which is not taken from a file: name it, or "
            "another one, with --grader (and --grader-options)"
        )
    return stated, options


def write_imported(
    request: Import, reader: Reader, folder: EvaluationFolder, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Grade and write the answers, one batch after the other, and return the results. The folder's lock is
    the caller's.

    Raises ValueError where no row can be used, where most rows have another number of answers than the first,
    and where the folder holds another evaluation.
    """
    start = time.perf_counter()
    plan = _plan(request, reader)
    former = _check_folder(folder, plan)
    joined = _joined(request, reader)
    rows = _Rows(request, reader, joined, former)
    figures: list[SampleRecord] = []  # without texts, which may be gigabytes
    folder.create()
    kept = _counted_by(request)
    graded = _graded(rows, grader_of(plan), figures, kept, progress)
    with samples_replaced(folder.samples_file, graded):
        plan["questions"], plan["protocol"]["n"] = rows.count, rows.n
        plan["data"] |= {"rows": rows.count, "sha256": rows.digest.hexdigest()}
        plan["protocol"]["imported"] |= rows.found()
        write_json(folder.plan_file, plan)
        write_json(folder.timing_file, {"seconds": round(time.perf_counter() - start, 3)})
        write_protocol_results(folder, plan, figures)
    return folder.results()


def _joined(request: Import, reader: Reader) -> Joined | None:
    if request.data is None:
        return None
    benchmark = None if request.protocol is None else BENCHMARKS.get(request.protocol.name)
    name = None if benchmark is None else benchmark.name
    return Joined(request.data, request.columns, reader.by_place, name)


def _counted_by(request: Import) -> tuple[str, ...]:
    """The columns by which the protocol's aggregate counts."""
    aggregate = request.protocol.aggregate if request.protocol else None
    return () if aggregate is None else AGGREGATES[aggregate].columns


def _plan(request: Import, reader: Reader) -> dict[str, Any]:
    name = result_name(request, reader)
    facts = dict(reader.facts)
    read = {key: facts.pop(key, usual) for key, usual in _READ.items()}
    facts = {key: value for key, value in facts.items() if key not in ("grader", "grader_options")}
    grader, options = grader_named(request, reader)
    if grader in PROFILES and options:
        raise ValueError(f"{request.file}: grader_options are a reward's, and the grader {grader} takes none")
    reward = reward_of_name(grader, options)
    imported = {
        "harness": reader.harness,
        "file": request.file.name,
        "sha256": _sha256(request.file),
        **{key: value for key, value in facts.items() if value is not None},
        "official": reader.official,
    }
    settings = {
        **_of_protocol(request),
        "name": name,
        "about": f"Answers that {reader.harness} sampled, graded here.",
        "grader": grader,
        "grader_options": options,
        "benchmark": read["benchmark"] or (request.protocol.benchmark if request.protocol else ""),
        "imported": imported,
    }
    return {
        "name": name,
        "protocol": settings,
        "template": {"name": read["template"], "answer_in": read["answer_in"]},
        "data": {"source": request.data or request.file.name, "pinned": None},
        "model": {"path": str(facts.get("model") or "model not stated")},
        "backend": {"name": reader.harness},
        "versions": versions(),
        **({} if reward is None else {"grader": facts_of(reward)}),
    }


def _of_protocol(request: Import) -> dict[str, Any]:
    """What an imported result states of the protocol whose rows were asked: not how they were asked."""
    if request.protocol is None:
        return {}
    stated = request.protocol.stated()
    kept = ("questions", "version", "aggregate", "official")
    return {"protocol": request.protocol.name} | {key: stated[key] for key in kept if key in stated}


def _check_folder(folder: EvaluationFolder, plan: dict[str, Any]) -> str | None:
    """The sha256 of the rows that the folder holds a result of, graded as they are to be; None for a new one.
    Raises ValueError for another result."""
    there = folder.plan()
    if there is None:
        return None
    held, wanted = _as_asked(there), _as_asked(plan)
    if held["protocol"].get("imported", {}).get("sha256") != wanted["protocol"]["imported"]["sha256"]:
        raise ValueError(
            f"{folder.folder} holds the result of another file: give another --out, or another --name"
        )
    if differences := differing(held, wanted):
        raise ValueError(
            f"{folder.folder} holds the same file's result with other settings: {in_words(differences)}. "
            "Give another --out or --name, or delete that folder"
        )
    return there["data"].get("sha256")


def _as_asked(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan without what the rows tell."""
    imported = plan["protocol"].get("imported", {})
    asked = {key: value for key, value in imported.items() if key not in _FOUND}
    settings = {key: value for key, value in plan["protocol"].items() if key not in ("n", "imported")}
    data = {key: value for key, value in plan["data"].items() if key not in ("rows", "sha256")}
    whole = {key: value for key, value in plan.items() if key != "questions"}
    return {**whole, "protocol": {**settings, "imported": asked}, "data": data}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


class _Rows:
    """The usable rows as records that are not graded yet, and what became of the others."""

    def __init__(self, request: Import, reader: Reader, joined: Joined | None, former: str | None):
        """former: the sha256 of the rows that a result in the folder is of."""
        self._request, self._reader, self._joined, self._former = request, reader, joined, former
        self.n = self.count = self.cut = self.failed = self.unjudged = self.unboxed = 0
        self.faults, self.digest = RowFaults(), hashlib.sha256()
        self._seen: set[str] = set()
        self._aggregate = request.protocol.aggregate if request.protocol else None

    def __iter__(self) -> Iterator[SampleRecord]:
        seen, ids = self._seen, set[str]()
        for number, given in enumerate(self._reader):
            key = f"{number}" if isinstance(given, RowError) else given.key
            try:
                if isinstance(given, RowError):
                    raise given
                if key in seen:
                    raise RowError("repeated", f"{key} comes again: under another filter, or of another run")
                example_id, row = self._joined.row(given) if self._joined else (given.name or key, given)
                if example_id in ids:
                    raise RowError("repeated", f"the id {example_id} comes again")
                self._check(row)
            except RowError as error:
                self.faults.append(Fault(self._request.file.name, number, key, error.reason, str(error)))
                continue
            seen.add(key)
            ids.add(example_id)
            self._count(example_id, row)
            yield from _records(example_id, row)
        self._check_join()
        self.faults.settle("skip", self.count, lambda _: None)
        odd = self.faults.counts().get("number_of_answers", 0)
        if odd > self.count:
            raise ValueError(
                f"{self._request.file}: the first row has {self.n} answers, and {odd:,} of "
                f"{odd + self.count:,} rows have another number: rows of one file must have as many"
            )
        if self._former not in (None, self.digest.hexdigest()):
            raise ValueError(
                f"{self._request.file}: its questions, or their right answers, are others than those of the "
                "result in that folder: the rows of --data have changed. Give another --out or --name"
            )

    def _check_join(self) -> None:
        """Raises ValueError where the file's rows are not those of --data."""
        others = [fault for fault in self.faults if fault.reason in OTHERS]
        if self._joined is not None and others:
            self._joined.check(self.count, self.faults.counts(), str(others[0]))

    def _check(self, row: ImportedRow) -> None:
        """Raises RowError for a row that cannot be graded as the others are."""
        if row.fault is not None:
            raise row.fault
        if not row.gold.strip():
            raise RowError("no_gold", "the file has no right answer for it: --data names rows that have")
        try:
            parse_gold(row.gold)
        except ValueError as error:
            raise RowError("gold", str(error)) from error
        self.n = self.n or len(row.responses)
        if len(row.responses) != self.n:
            raise RowError("number_of_answers", f"{len(row.responses)} answers, the first row has {self.n}")

    def _count(self, example_id: str, row: ImportedRow) -> None:
        if self._aggregate is not None:
            check_columns(self._aggregate, example_id, row.meta)
        self.count += 1
        self.cut += row.cut
        self.unjudged += sum(verdict is None for verdict in row.official) if self._reader.official else 0
        self.unboxed += sum("boxed" not in text and "<answer>" not in text for text in row.responses)
        self.failed += sum(text.startswith(ERROR_TEXTS) for text in row.responses)
        self.digest.update(f"{example_id}\0{row.question}\0{row.gold}\n".encode("utf-8", "backslashreplace"))

    def found(self) -> dict[str, Any]:
        """What results.json says of the rows, under `imported`; what there is none of is left out."""
        said = {
            "left_out": self.faults.counts(),
            "first_left_out": [str(fault) for fault in self.faults[:5]],
            "unjudged": self.unjudged,
            "unboxed": self.unboxed,
            "cut": self.cut,
            "failed": self.failed,
            "rotated": 0 if self._reader.by_place else rotations(self._seen),
            "joined_by": None if self._joined is None else self._joined.joined_by,
            "doc_hash": {} if self._joined is None else dict(self._joined.hashes),
        }
        return {key: value for key, value in said.items() if value}


def _records(example_id: str, row: ImportedRow) -> Iterator[SampleRecord]:
    for k, (response, official, length) in enumerate(zip(row.responses, row.official, row.lengths)):
        yield SampleRecord(
            id=example_id,
            group=example_id,
            k=k,
            prompt=row.question,
            images=[],
            response=response,
            finished=not row.cut,
            gold=row.gold,
            extracted=None,
            gold_type="",
            correct=False,
            outcome="",
            reward={} if official is None else {OFFICIAL: official},
            seed=0,
            length=length,
            meta=row.meta,
        )


def _graded(
    rows: Iterator[SampleRecord] | _Rows,
    grader: Grader,
    figures: list[SampleRecord],
    kept: tuple[str, ...],
    progress: Callable[[int], None],
) -> Iterator[SampleRecord]:
    """The records with their verdicts; `figures` gets each without its texts, with the kept columns."""
    ungraded = iter(rows)
    while batch := list(islice(ungraded, BATCH)):
        if not figures:
            _check_boxes(batch, grader)
        for record in regrade(batch, grader, processes=1):
            meta = {column: record.meta[column] for column in kept}
            figures.append(replace(record, prompt="", response="", meta=meta))
            yield record
        progress(len(batch))


def _check_boxes(records: Sequence[SampleRecord], grader: Grader) -> None:
    """Raises ValueError for a reward of ours where most answers do not stand where it reads them. A judge is
    shown the whole response."""
    if not isinstance(grader, Reward) or grader.by_path or grader.name == _ASKS_A_SERVER:
        return
    without = sum("boxed" not in r.response and "<answer>" not in r.response for r in records)
    if without > len(records) / 2:
        raise ValueError(
            f"the reward {grader.name} reads an answer in \\boxed{{}} or <answer> alone, and {without:,} of "
            f"the first {len(records):,} answers have neither: leave --grader out, and strict reads them "
            "wherever they stand"
        )
