"""What to know about the number of an imported result, in sentences."""

from __future__ import annotations

from typing import Any


def notes_of_import(plan: dict[str, Any]) -> list[str]:
    """plan: as `write.py` writes it."""
    facts = plan["protocol"]["imported"]
    harness = facts["harness"]
    said = [
        f"imported from {harness} ({facts['file']}): prompts, pictures and sampling are that harness's, and "
        "the number is no protocol's of ours"
    ]
    if "sampling" not in facts and "gen_kwargs" not in facts:
        said.append("how the answers were sampled is stated nowhere in what was imported")
    if plan["template"]["answer_in"] == "any" and "grader" not in plan:
        said.append(
            "an answer is read in the last box, else in the last <answer>, else where it is stated, else it "
            "is the response of one line: a longer response that states none counts as none"
        )
    if "grader" in plan and plan["protocol"]["grader"] != "judge":  # which is shown the whole response
        said.append(
            f"graded by the reward {plan['protocol']['grader']}, which reads an answer where training's "
            f"prompts ask for it; {facts.get('unboxed', 0):,} answers have neither \\boxed{{}} nor <answer>"
        )
    if "protocol" in plan["protocol"]:
        said += _of_protocol(plan)
    said += _verdicts(facts, plan["protocol"]["n"])
    if left := facts.get("left_out"):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in left.items())
        said.append(f"rows that could not be used were left out: {reasons}")
    return said + _counted(facts, harness) + _hashes(facts.get("doc_hash", {}))


def _verdicts(facts: dict[str, Any], n: int) -> list[str]:
    harness, key = facts["harness"], facts["official"]
    if facts.get("circular"):
        return [
            f"{harness}'s verdicts are of all rotations of a question (CircularEval), and those answers are "
            "not in this table: none is taken; its predictions have them, and --official hit takes these"
        ]
    if key is None:
        metrics = ", ".join(facts.get("metrics", [])[:8])
        others = f": it has {metrics}; --official NAME takes one" if metrics else ""
        return [f"no verdicts of {harness} stand in the file, or none were asked for{others}"]
    if not (count := facts.get("unjudged")):
        return []
    why = f", since it states one for the {n} answers of a row" if n > 1 else ""
    return [f"{count:,} answers have no verdict of {harness}'s ({key}){why}"]


def _of_protocol(plan: dict[str, Any]) -> list[str]:
    settings = plan["protocol"]
    said = [
        f"questions and right answers are the protocol {settings['protocol']}'s, how they were asked is not"
    ]
    if (wanted := settings.get("questions")) is not None and plan["questions"] != wanted:
        said.append(f"{plan['questions']:,} questions were answered, the protocol has {wanted:,}")
    if "official" in settings:
        said.append(f"the official score: {settings['official']}")
    return said


def _counted(facts: dict[str, Any], harness: str) -> list[str]:
    said = [f"the file: {facts['read_as']}"] if "read_as" in facts else []
    if cut := facts.get("cut"):
        said.append(
            f"{cut:,} answers fill their cell of 32,767 characters: what followed was cut when the workbook "
            "was written"
        )
    if failed := facts.get("failed"):
        said.append(f"{failed:,} answers are an error of {harness}'s, and count as wrong")
    if rotated := facts.get("rotated"):
        said.append(
            f"{rotated:,} rows ask a question again with rotated options; each counts alone here, where "
            "CircularEval counts a question whose rotations are all right"
        )
    return said


def _hashes(found: dict[str, int]) -> list[str]:
    words = {
        "equal": "doc_hash is that of the row in --data",
        "other": "doc_hash is another than that of the row in --data, whose columns may be others",
        "empty": "doc_hash is the hash of nothing, as some versions of lmms-eval write it",
        "unknown": "doc_hash cannot be rebuilt, since the row holds pictures",
    }
    return [f"{found[key]:,} rows: {text}" for key, text in words.items() if key in found]
