"""What a check found: about what, how bad, where, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")  # the worst first
INDENT = " " * 17
SIGNS: dict[Level, str] = {"ok": "ok", "note": "note", "warning": "WARN", "error": "ERROR"}
# Of a row.
MEANING = {
    "error": "a run cannot use the row: it stops, or leaves the row out where data.on_bad_row or "
    "data.filter_overlong_prompts say so; or it would pay for wrong answers",
    "warning": "a run uses the row, and that is probably not wanted",
    "note": "a run uses the row; worth knowing",
}


@dataclass(frozen=True)
class RowPlace:
    """Where a row is. `row` counts from 0 within `file`."""

    split: str
    file: str
    row: int
    id: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row} (id {self.id})"


@dataclass(frozen=True)
class Finding:
    """level: `error` stops or ruins a run, `warning` probably does, `note` is worth knowing, `ok` is sound.

    check: what was looked at; of a row the reason, one of those below. where: a key, a file, or a row.
    change: what to do; never empty for warnings and errors.
    """

    level: Level
    check: str
    what: str
    where: str | RowPlace = ""
    change: str = ""


# Reasons of warnings and notes, with what to do. Everything else a row is refused for is an error
# (data/rows.py).
WARNINGS = {
    "gold_not_verified": "the right answer itself is not worth what a right answer is worth under the "
    "configured reward: no "
    "response can be right. Mend the gold, give it a type (data.answers.encode_answer), or take another "
    "reward",
    "wrong_answer_passes": "a wrong answer earns as much as the right one: the row teaches nothing, or "
    "the wrong thing. Take a stricter reward, or mend the gold",
    "gold_unreachable": "right answers in usual forms are worth no more than a wrong one. Write the gold "
    "plainly (a number without its label or unit, a letter with its choices), give it a type "
    "(data.answers.encode_answer), or take a reward that reads these forms",
    "reward_unanswered": "a response with this gold has no score, so what it would be worth is not known. "
    "Check again: what a judge has answered is kept",
    "choices_doubled": "options bring their letters, and the problem writes letters in front of them, too: "
    "`A. A. 300`. Take the letters out of the options",
    "choices_equal": "two options are the same, or differ in marks, case or unit alone (6 ft, 6 feet): an "
    "answer in words fits both. Mend the choices or leave the row out, unless these are what is asked about",
    "duplicate": "the same problem with the same pictures and answer stands in the split already: it counts "
    "twice",
    "contradiction": "the same problem with the same pictures has another answer elsewhere: one of the two "
    "is wrong",
    "leak_problem": "the same problem with the same pictures is in another split: the validation would "
    "measure memory",
    "leak_picture": "the same picture is in another split under another problem",
    "control_tokens": "the problem spells out control tokens of the model. In a prompt they are plain text; "
    "take them out if they are "
    "what is left of another model's chat",
    "picture_extreme_aspect": "a very long or flat picture: few of its pixels are left along the short side. "
    "Crop it",
    "picture_small": "smaller than one patch of the model: nothing can be seen on it",
}
NOTES = {
    "picture_shrunk": "made much smaller for the model: small print may be lost. Raise data.max_pixels if it "
    "matters",
    "picture_cmyk": "CMYK: converted to RGB",
    "picture_palette": "palette colours: converted to RGB",
    "picture_16_bit": "16 bits a channel: scaled to 8",
    "picture_alpha": "transparent: laid on white",
    "picture_rotated": "turned upright as its EXIF says",
    "picture_animated": "several frames: the first is taken",
    "picture_mode": "another colour mode: converted to RGB",
    "answer_place_unsaid": "a model that was not taught it must guess where its answer is read: "
    "data.format_prompt asks for it",
    "judge_not_asked": "the reward asks an endpoint, which may cost money. --ask-judge N asks it about the "
    "golds of N rows",
}
ERRORS = {
    "prompt_and_reward": "the prompt asks for the answer in one place and the reward reads it in another: no "
    "response that does as asked is paid. Change data.format_prompt or the reward",
    "reward_pays_anything": "a wrong answer earns as much as a right one, so nothing can be learned. Take "
    "another reward",
    "wrong_choice_passes": "a wrong option is worth as much as the right one. Take another reward, or mend "
    "the row's choices",
    "prompt_too_long": "longer than data.max_prompt_length, image tokens included; see Lengths for what "
    "would fit",
    "pictures_unseen": "no row is at fault: mend or replace the one file that the line names",
    "prompt_unusable": "the model cannot take this row: see its line",
    "gold_refused": "the reward raises an error on this gold: a run stops there. Mend it, or leave the row "
    "out",
    "judge_failed": "the endpoint that the reward asks gave no verdict: a run would end there. Nothing more "
    "was asked",
    "answer_form": "JSON that no verifier reads; data.answers.encode_answer writes it right",
    "game_broken": "the row's game cannot be begun. Mend what it is made from, or the environment, or leave "
    "the row out",
    "image_unreadable": "the picture does not decode. Fetch it again, or leave the row out",
    "image_tags": "write one <image> tag per picture into the problem, or let them be put there: `gmpo-vl "
    "data new NAME --source "
    "FILE` begins a mapping file, `gmpo-vl data convert NAME.yaml FOLDER` makes new files by it",
    "image_missing": "there is no such picture; data.image_dir says where relative paths begin",
    "missing_column": "data.prompt_key, data.answer_key and data.image_key name the columns",
    "empty_problem": "a problem needs words besides its pictures",
    "problem_type": "a problem is text",
    "empty_answer": "without an answer nothing can be verified",
    "answer_type": "an answer is text or a number, or a list of alternatives",
    "answer_length": "an answer of hundreds of thousands of characters is no answer",
    "image_type": "a picture is encoded bytes, a path, or a picture of `datasets`",
    "bad_text": "text that is no Unicode: read the file with the encoding it was written in",
    "id_type": "an id is a short text or a number; data without ids goes by file and row",
    "number_length": "write such a number as text",
    "duplicate_id": "ids must differ; data.id_key names their column in a mapping file",
    "problem_length": "a problem of millions of characters is no problem",
    "unreadable_row": "the line cannot be read",
}
ADVICE = {**WARNINGS, **NOTES, **ERRORS}
# Of a whole split: told once, at the first row that shows it. Its rows can be used.
OF_A_SPLIT = (
    "prompt_and_reward",
    "reward_pays_anything",
    "answer_place_unsaid",
    "judge_not_asked",
    "judge_failed",
)


def level_of(reason: str) -> Level:
    return "warning" if reason in WARNINGS else "note" if reason in NOTES else "error"


def row_finding(reason: str, what: str, where: RowPlace) -> Finding:
    return Finding(level_of(reason), reason, what, where, ADVICE.get(reason, ""))


def doctor_record(finding: Finding) -> dict[str, Any]:
    """An entry of doctor.json (docs/formats.md)."""
    return {**vars(finding), "where": str(finding.where)}


def row_record(finding: Finding) -> dict[str, Any]:
    """A line of rows.jsonl (docs/formats.md). Only for a row's finding."""
    assert isinstance(finding.where, RowPlace)
    return {"level": finding.level, "reason": finding.check, **asdict(finding.where), "detail": finding.what}


def lines_of(finding: Finding) -> list[str]:
    """For a terminal: what was found, and below it where and what to do."""
    first, *rest = finding.what.split("\n")
    lines = [f"{SIGNS[finding.level]:6}{finding.check:11}{first}", *(INDENT + line for line in rest)]
    details = (("where", finding.where), ("do", finding.change))
    return lines + [f"{INDENT}{label}: {text}" for label, text in details if text]


def count_line(findings: Sequence[Finding]) -> str:
    counts = {level: sum(f.level == level for f in findings) for level in LEVELS}
    return ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items())
