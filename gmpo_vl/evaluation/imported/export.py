"""A result's samples in lmms-eval's form, so that whoever reads its files reads ours.

A line is a question: doc_id is its number, target the right answer as a person writes it, each part of the
score is a metric. What that form cannot say stands under the key `gmpo_vl`, the grader among it, so that
importing the file again gives the same verdicts; a reward of one's own and a judge must be named again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from gmpo_vl.evaluation.imported.lmms_eval import OURS, OURS_IS_CALLED
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import to_line, whole_file
from gmpo_vl.verify import parse_gold


def export_lmms_eval(folder: EvaluationFolder, out: Path) -> int:
    """Write the file, line by line, and return the number of questions. Raises ValueError for games, whose
    turns that form does not have."""
    results = folder.results()
    if "episode" in results:
        raise ValueError(f"{folder.folder} holds games: lmms-eval's form has no turns")
    settings, template = results["settings"], results.get("template", {})
    rules = results.get("judge", {}).get("rules")  # of a judged result, whose judge is a metric of its own
    ours = {
        "harness": settings.get("imported", {}).get("harness", OURS_IS_CALLED),
        "grader": rules or settings.get("grader", "strict"),
        "grader_options": settings.get("grader_options", {}),
        "benchmark": settings.get("benchmark", ""),
        "template": template.get("name", "chat"),
        "answer_in": template.get("answer_in", "box"),
    }
    questions = 0
    with whole_file(out) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for questions, (_, group) in enumerate(groupby(folder.samples(), attrgetter("id")), start=1):
            file.write(to_line(_line(questions - 1, list(group), ours)))
    return questions


def _line(doc_id: int, group: Sequence[SampleRecord], ours: dict[str, Any]) -> dict[str, Any]:
    first = group[0]
    parts = dict.fromkeys(part for record in group for part in record.reward)
    doc = {"problem": first.prompt, "answer": first.gold}
    return {
        "doc_id": doc_id,
        "target": _target(first.gold),
        **_responses([record.response for record in group]),
        "token_counts": [{"output_tokens": r.length} if r.length else None for r in group],
        "doc_hash": _hash(doc),
        **{part: _one([record.reward.get(part) for record in group]) for part in parts},
        "input": first.prompt,
        OURS: {
            "id": first.id,
            "gold": first.gold,
            **ours,
            "outcome": _one([record.outcome for record in group]),
            "extracted": _one([record.extracted for record in group]),
        },
    }


def _responses(texts: list[str]) -> dict[str, Any]:
    """As lmms-eval flattens them: `resps` is left out where it says the same."""
    if len(texts) == 1:
        return {"filtered_resps": texts[0]}
    return {"resps": [[text] for text in texts], "filtered_resps": texts}


def _one(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _target(gold: str) -> str:
    try:
        return " or ".join(parse_gold(gold).answers)
    except ValueError:  # a gold that only the reward can read
        return gold


def _hash(doc: dict[str, str]) -> str:
    text = json.dumps(doc, indent=2, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
