r"""Is this answer right? `verify(gold, response)` says so, and why.

Two profiles. `strict` is for rewards and for reporting: right as often as we can make it (equality.py,
quantities.py and choices.py state its rules). `paper` repeats the decisions of the published graders
(published/paper.py), so that numbers compare.

    extract -> normalise -> lex -> parse -> equality -> quantities -> arithmetic
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from time import perf_counter
from typing import Literal

from gmpo_vl.types import Verdict
from gmpo_vl.verify import strict
from gmpo_vl.verify.extract import Extracted, answer_anywhere, answer_tag, last_box
from gmpo_vl.verify.gold import Gold, parse_gold
from gmpo_vl.verify.published import paper
from gmpo_vl.verify.workers import DEADLINE, Question, ask_math_verify, check_installed

__all__ = ["Gold", "Verdict", "parse_gold", "verify", "verify_batch"]

Profile = Literal["strict", "paper"]
GoldLike = str | float | Sequence[str | float] | Gold
_NOTHING = Extracted(None)
_ELSEWHERE = {"tag": answer_tag, "any": answer_anywhere}  # where an answer may stand beside a box
_log = logging.getLogger(__name__)


def verify(
    gold: GoldLike,
    response: str,
    profile: Profile = "strict",
    *,
    benchmark: str = "",
    answer_in: str = "box",
    workers: int = 0,
) -> Verdict:
    r"""Judge one response; see verify_batch."""
    return verify_batch(
        [gold], [response], profile, benchmark=benchmark, answer_in=answer_in, workers=workers
    )[0]


def verify_batch(
    golds: Sequence[GoldLike],
    responses: Sequence[str],
    profile: Profile = "strict",
    *,
    benchmark: str | Sequence[str] = "",
    answer_in: str = "box",
    workers: int = 0,
) -> list[Verdict]:
    r"""Judge each response against its gold. One verdict per pair, in order.

    benchmark: one name, or one a pair; the paper profile judges `geometry3k` as mathruler 0.1.0 does and
        everything else as GMPO does. The strict profile has one set of rules for all.
    answer_in: "box" for the last `\boxed{}`, "tag" for the last `<answer>` (the r1v form), "any" for answers
        to prompts that may name no place (extract.answer_anywhere).
    workers: processes for math-verify. With 0 the strict profile leaves what it cannot decide as `undecided`,
        which is not correct; the paper profile, of which math-verify is a part, starts one where needed.

    Raises ValueError for a gold that can verify nothing and for unknown settings, never for a response;
    ModuleNotFoundError where math-verify is asked for and not installed (the extra `verify`), whether or not
    one of these responses needs it: a run must not end at the first that does.
    """
    if len(golds) != len(responses):
        got = f"verify_batch got {len(golds)} golds and {len(responses)} responses"
        raise ValueError(f"{got}; there must be one gold a response")
    if profile not in ("strict", "paper"):
        raise ValueError(f"profile={profile!r} is unknown; it is 'strict' or 'paper'")
    if answer_in not in ("box", *_ELSEWHERE):
        raise ValueError(f"answer_in={answer_in!r} is unknown; it is 'box', 'tag' or 'any'")
    if profile == "paper" or workers:
        check_installed()
    benchmarks = [benchmark] * len(golds) if isinstance(benchmark, str) else benchmark
    specs = [parse_gold(gold) for gold in golds]
    verdicts = [
        _judge(s, r, profile, b, answer_in) for s, r, b in zip(specs, responses, benchmarks, strict=True)
    ]
    if profile == "strict" and not workers:
        return verdicts
    left = "ask" if profile == "paper" else "undecided"
    open_ = [i for i, v in enumerate(verdicts) if v.outcome == left]
    if not open_:
        return verdicts
    questions = [
        Question(alternative, verdicts[i].extracted or "", DEADLINE / len(specs[i].answers))
        for i in open_
        for alternative in specs[i].answers
    ]
    replied = iter(ask_math_verify(questions, workers))
    for i in open_:
        replies = list(islice(replied, len(specs[i].answers)))
        outcome = next((o for o in ("equal", "timeout", "error") if o in replies), "different")
        verdicts[i] = replace(verdicts[i], correct=outcome == "equal", outcome=outcome)
    return verdicts


def _judge(spec: Gold, response: str, profile: Profile, benchmark: str, answer_in: str) -> Verdict:
    start = perf_counter()
    found, outcome = _NOTHING, "error"
    elsewhere = _ELSEWHERE.get(answer_in)
    try:
        if profile == "paper":
            grader: paper.Grader = "mathruler" if benchmark.startswith("geometry3k") else "gmpo"
            found = elsewhere(response) if elsewhere else paper.extract(grader, response)
            outcomes = [found.problem or paper.judge(grader, g, found.text or "") for g in spec.answers]
            outcome = next((o for o in ("equal", "ask") if o in outcomes), outcomes[0])
        else:
            found = (elsewhere or last_box)(response)
            outcome = found.problem or strict.judge(spec, (found.text or "").strip())
    except Exception:  # a defect of ours costs this answer its reward, counted as `error`, and never the run
        _log.exception("the verifier failed on gold %r and answer %.200r", spec, found.text)
    return Verdict(outcome == "equal", found.text, strict.gold_type(spec), outcome, perf_counter() - start)
