"""Finished evaluations by published protocols, written from tables of right and wrong answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gmpo_vl.evaluation.protocols import load_protocol, override
from gmpo_vl.evaluation.results import write_protocol_results
from gmpo_vl.runs import EvaluationFolder
from gmpo_vl.samples import SampleRecord
from gmpo_vl.storage.files import write_json


def write_result(
    out: Path,
    protocol: str,
    right_Qn: np.ndarray,
    metas: Sequence[Mapping[str, Any]] | None = None,
    model: str = "model",
    **changes: Any,
) -> EvaluationFolder:
    """OUT/NAME with samples and results. right_Qn: bool (questions, n). changes: fields of the protocol."""
    questions, n = right_Qn.shape
    changes |= {"n": n, "temperature": 0.5} if n > 1 else {}
    stated = override(load_protocol(protocol), changes)
    folder = EvaluationFolder(out / stated.name).create()
    records = [
        SampleRecord(
            id=f"{protocol}-{i}",
            group=f"{protocol}-{i}",
            k=k,
            prompt="What?",
            images=[],
            response=f"\\boxed{{{4 if right else 5}}}",
            finished=True,
            gold="4",
            extracted="4" if right else "5",
            gold_type="integer",
            correct=bool(right),
            outcome="equal" if right else "different",
            reward={"overall": float(right), "strict": float(right)},
            seed=k,
            length=3,
            meta={} if metas is None else dict(metas[i]),
        )
        for i, row in enumerate(right_Qn)
        for k, right in enumerate(row)
    ]
    plan = {
        "name": stated.name,
        "protocol": stated.stated(),
        "questions": questions,
        "data": {"source": stated.data, "rows": questions, "sha256": protocol, "pinned": None},
        "model": {"path": model, "sha256": model},
        "backend": {"name": "transformers", "dtype": "float32", "device": "cpu"},
        "versions": {},
        "template": {"name": "chat", "stop": None, "answer_in": "box"},
    }
    write_json(folder.plan_file, plan)
    folder.write_samples(records)
    write_protocol_results(folder, plan, records)
    return folder
