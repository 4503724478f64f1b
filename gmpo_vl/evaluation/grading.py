"""Answers to verdicts, by both profiles: the one that counts, and the other beside it, so that disputes are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gmpo_vl.evaluation.protocols import Protocol, template_rules
from gmpo_vl.rollout.scoring import to_records
from gmpo_vl.rollout.types import Group
from gmpo_vl.runs import SampleRecord
from gmpo_vl.verify import Profile, Verdict, verify_batch

PROFILES: tuple[Profile, ...] = ("strict", "paper")


@dataclass(frozen=True)
class Grading:
    """How a protocol's answers are judged. `grader` is the profile that counts."""

    grader: Profile
    benchmark: str = ""
    answer_in: str = "box"
    requires: str | None = None

    def verdicts(self, golds: Sequence[str], responses: Sequence[str]) -> dict[Profile, list[Verdict]]:
        """Both profiles' verdicts, in order. What lacks the literal that the template asks for holds no answer."""
        asked = [r if self.requires is None or self.requires in r else "" for r in responses]
        return {
            profile: verify_batch(
                golds, asked, profile, benchmark=self.benchmark, answer_in=self.answer_in, workers=1
            )
            for profile in PROFILES
        }


def grading_of(protocol: Protocol) -> Grading:
    rules = template_rules(protocol.template)
    return Grading(protocol.grader, protocol.benchmark, rules.answer_in, rules.requires)


def graded(groups: Sequence[Group], grading: Grading, add_image: Callable[[Any], str]) -> list[SampleRecord]:
    """Records of the groups' samples; `reward` has `overall` (the grader that counts), `strict` and `paper`."""
    golds = [group.prompt.example.answer for group in groups for _ in group.responses]
    verdicts = grading.verdicts(golds, [r.text for group in groups for r in group.responses])
    at = 0
    for group in groups:
        mine = {profile: verdicts[profile][at : at + len(group.responses)] for profile in PROFILES}
        at += len(group.responses)
        group.verdicts = list(mine[grading.grader])
        group.scores = [
            _scores(grading.grader, {profile: mine[profile][k] for profile in PROFILES})
            for k in range(len(group.responses))
        ]
    return to_records(groups, add_image)


def _scores(grader: Profile, verdicts: dict[Profile, Verdict]) -> dict[str, float]:
    return {
        "overall": float(verdicts[grader].correct),
        **{profile: float(v.correct) for profile, v in verdicts.items()},
    }


def disputed(record: SampleRecord) -> bool:
    """Do the two profiles disagree? False where only one was asked."""
    return record.reward.get("strict") != record.reward.get("paper", record.reward.get("strict"))
