"""Answers to verdicts, by both profiles: the one that counts, and the other beside it, so that disputes are seen.

Light to import: grading again happens in processes that need no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gmpo_vl.evaluation.protocols import template_rules
from gmpo_vl.samples import SampleRecord
from gmpo_vl.verify import Profile, Verdict, verify_batch

if TYPE_CHECKING:
    from gmpo_vl.types import Group

PROFILES: tuple[Profile, ...] = ("strict", "paper")
Verdicts = dict[Profile, list[Verdict]]


@dataclass(frozen=True)
class Grading:
    """How a protocol's answers are judged. `grader` is the profile that counts; `requires` a literal without which there
    is no answer."""

    grader: Profile
    benchmark: str = ""
    answer_in: str = "box"
    requires: str | None = None

    def verdicts(self, golds: Sequence[str], responses: Sequence[str]) -> Verdicts:
        """Both profiles' verdicts, in order."""
        asked = [r if self.requires is None or self.requires in r else "" for r in responses]
        return {
            profile: verify_batch(
                golds, asked, profile, benchmark=self.benchmark, answer_in=self.answer_in, workers=1
            )
            for profile in PROFILES
        }

    def scores(self, verdicts: Verdicts, at: int) -> dict[str, float]:
        """The `reward` of a record: `overall` by the grader that counts, and each profile."""
        return {
            "overall": float(verdicts[self.grader][at].correct),
            **{profile: float(verdicts[profile][at].correct) for profile in PROFILES},
        }


def grading_of(protocol: dict[str, Any]) -> Grading:
    """From a protocol's fields, as plan.json has them."""
    rules = template_rules(protocol["template"])
    return Grading(protocol["grader"], protocol["benchmark"], rules.answer_in, rules.requires)


def graded(
    groups: Sequence[Group], grading: Grading, pictures: Sequence[Future[list[str]]]
) -> list[SampleRecord]:
    """Records of the groups' samples, with their verdicts. pictures: of each group (`scoring.pictures_kept`)."""
    from gmpo_vl.rollout.scoring import records_of

    golds = [group.prompt.example.answer for group in groups for _ in group.responses]
    verdicts = grading.verdicts(golds, [r.text for group in groups for r in group.responses])
    at = 0
    for group in groups:
        places = range(at, at + len(group.responses))
        group.verdicts = [verdicts[grading.grader][i] for i in places]
        group.scores = [grading.scores(verdicts, i) for i in places]
        at += len(group.responses)
    return records_of(groups, pictures)
