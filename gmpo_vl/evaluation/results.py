"""A finished evaluation's files: chunks joined, results written, shards merged. Light to import: no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gmpo_vl.evaluation.chunks import count_of_chunks, sound_chunks
from gmpo_vl.evaluation.summary import figures
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import write_json


def differing(begun: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What two plans differ in, in words; where a model or data set lies does not matter."""
    old, new = _leaves(begun), _leaves(wanted)
    keys = sorted((old.keys() | new.keys()) - {"model.path", "data.source"})
    return [
        f"{key} is {_shown(old.get(key))} there and {_shown(new.get(key))} now"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _shown(value: Any) -> Any:
    """A text that looks like something else in quotes: "24" is not 24."""
    return json.dumps(value) if isinstance(value, str) and not value[:1].isalpha() else value


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def finish(folder: EvaluationFolder) -> dict[str, Any]:
    """Join the chunks and write results.json; returns it. Raises ValueError while chunks are missing, or were bad."""
    plan = folder.plan()
    if plan is None:
        raise FileNotFoundError(f"{folder.folder} holds no evaluation: no plan.json")
    if not folder.finished:
        chunks = count_of_chunks(plan)
        missing = sorted(set(range(chunks)) - sound_chunks(folder, plan))
        if missing:
            raise ValueError(
                f"{folder.folder}: {len(missing)} of {chunks} chunks are missing (the first is {missing[0]}); run the same "
                "command again, or the shards that were not run"
            )
        folder.join_chunks(chunks)
        write_results(folder, plan)
    folder.remove_chunks()
    return folder.results()


def write_results(
    folder: EvaluationFolder, plan: dict[str, Any], records: Sequence[SampleRecord] | None = None
) -> dict[str, Any]:
    """results.json: the figures, and everything they depend on. records: samples.jsonl's, if they are at hand."""
    records = list(folder.samples()) if records is None else records
    if len(records) != (wanted := plan["questions"] * plan["protocol"]["n"]):
        raise ValueError(
            f"{folder.samples_file} holds {len(records)} samples, the evaluation had {wanted}: it is damaged. Delete "
            f"{folder.folder} and evaluate again"
        )
    results = {
        "name": plan["name"],
        **figures(records, plan["protocol"]["n"]),
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
        if differences := differing(plan, other.plan() or {}):
            raise ValueError(f"{other.folder} is no shard of {first.folder}: {'; '.join(differences)}")
        sound_chunks(first, plan)  # the other one may have what is bad here
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
