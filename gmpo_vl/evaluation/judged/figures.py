"""What results say of a judge model's verdicts: the table beside the rules', and the notes.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gmpo_vl.evaluation.kinds import by_column
from gmpo_vl.evaluation.two_graders import Table, compared, shown, table_of
from gmpo_vl.report.cards import by_question
from gmpo_vl.samples import JUDGE, SampleRecord

_NAMES = {
    "both": "both_right",
    "only_first": "only_rules_right",
    "only_second": "only_judge_right",
    "neither": "neither_right",
}


def rules_and_judge(records: Sequence[SampleRecord], rules: str) -> dict[str, Any]:
    """Both means over the answers that have a verdict of both, their difference (judge - rules, paired by
    question), and the table of verdicts, of all and of each kind of question.

    records: of a judged result, a question's together. rules: the part of their scores that the rules gave.
    Where the judge was not asked about all of them, since the rules call some right, those count as right by
    both, and `agreement` and `kappa` are None: nobody knows what it would have said.
    Raises ValueError where no answer has a verdict of the judge.
    """
    having = [record for record in records if record.outcome != "unscored"]
    if not having:
        raise ValueError(f"the judge gave a verdict on none of {len(records):,} answers: there is no result")

    def by_rules(record: SampleRecord) -> float:
        return record.reward[rules]

    def by_judge(record: SampleRecord) -> float:
        return float(record.correct)

    found = compared(having, by_rules, by_judge)
    all_asked = all(JUDGE in record.reward for record in having)
    kinds = {
        column: {
            name: _in_words(table_of([r for group in groups for r in group], by_rules, by_judge), all_asked)
            for name, groups in values.items()
        }
        for column, values in by_column(list(by_question(having).values())).items()
    }
    unscored = len(records) - len(having)
    return {
        "asked": sum(JUDGE in record.reward for record in having) + unscored,
        "unscored": unscored,
        "questions": found.questions,
        **_in_words(found.table, all_asked),
        "kappa": found.table.kappa if all_asked else None,
        "rules": shown(found.first),
        "judge": shown(found.second),
        "difference": shown(found.difference),
        "kinds": kinds,
    }


def _in_words(table: Table, all_asked: bool) -> dict[str, Any]:
    counts = {_NAMES[key]: count for key, count in asdict(table).items()}
    return {"answers": table.answers, **counts, "agreement": table.agreement if all_asked else None}


def notes_of_judge(plan: dict[str, Any]) -> list[str]:
    """plan: as `write.py` writes it."""
    facts = plan["judge"]
    said = [
        f"a language model's verdicts count here, and the rules' ({facts['rules']}) stand beside them: "
        f"{facts['model']} at {facts['base_url']} was asked by {facts['prompt']} (sha256 "
        f"{facts['prompt_sha256'][:16]}) whether each response gives the gold, which is not what "
        "a benchmark's own judge is asked"
    ]
    if facts["only_refused"]:
        said.append(
            "only answers that the rules refuse were asked about: the judge could add right ones, and take "
            "none away"
        )
    return said
