"""Files in the forms that lmms-eval and VLMEvalKit write, of hand-made rows."""

import hashlib
import json
from pathlib import Path

SHAPES = "Which shape has four equal sides?\nA. circle\nB. square\nC. triangle\nAnswer with the letter."
# doc_id, what is asked, what is right, what was answered, the harness's verdict
ROWS = [
    (0, SHAPES, "B", "B", 1.0),
    (1, SHAPES, "B", "Let me see.\n\nThe correct option letter is B.", 0.0),  # its filter missed that
    (2, "How many sides has a square?", "4", "I count them: \\boxed{4}", 1.0),
    (3, "How many sides has a cube?", "6", "It has several faces.\nThere may be six or so.", 1.0),  # guessed
    (4, "How many corners has a cube?", "8", "<answer>7</answer>", 0.0),
]


def lmms_line(doc_id: int, asked: str, right: str | int, answered, verdict, **others) -> dict:
    """A line as lmms-eval 0.7 writes it for one answer a question."""
    return {
        "doc_id": doc_id,
        "target": right,
        "filtered_resps": answered,
        "token_counts": [{"output_tokens": 7}],
        "doc_hash": hashlib.sha256(b"null").hexdigest(),
        "exact_match": verdict,
        "submission": {"doc_id": doc_id, "score": 0},
        "input": asked,
        **others,
    }


def lmms_file(folder: Path, lines=None, task: str = "shapes") -> Path:
    """MODEL/DATE_samples_TASK.jsonl, with what stands beside it."""
    lines = [lmms_line(*row) for row in ROWS] if lines is None else lines
    place = folder / "org__tiny"
    place.mkdir(exist_ok=True)
    path = place / f"20260101_120000_samples_{task}.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    stated = {
        "results": {task: {"exact_match,none": 0.6}},
        "configs": {task: {"generation_kwargs": {"temperature": 0, "max_new_tokens": 16}}},
        "config": {"model": "vllm", "model_args": "pretrained=org/tiny,api_key=abcdef"},
        "model_name": "org/tiny",
    }
    (place / "20260101_120000_results.json").write_text(json.dumps(stated))
    return path


def kit_row(index: int, question: str, options: str, **others) -> dict:
    """A row of VLMEvalKit's table. options: of A, B, C, by spaces; empty where there are none."""
    letters = dict(zip("ABC", options.split() or [None] * 3))
    return {"index": index, "question": question, **letters, **others}


FRUIT = "apple chair dog"
KIT = [
    kit_row(10, "A fruit?", FRUIT, answer="A", kind="things", prediction="Answer: apple", hit=1, log="ok"),
    kit_row(11, "An animal?", FRUIT, answer="C", kind="things", prediction="B. chair", hit=0, log="ok"),
    kit_row(12, "What is 7 * 6?", "", answer=42, kind="sums", prediction="=SUM(40,2)", hit=0, log="ok"),
    kit_row(13, "What is 6 + 6?", "", answer=12.0, kind="sums", prediction="the answer is 12", hit=1, log=""),
]
