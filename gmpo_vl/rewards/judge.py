"""A model behind an OpenAI-compatible endpoint says whether the response gives the gold answer.

What the verifier takes for equal is not asked. A response without a verdict has no score and no gradient.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from dataclasses import MISSING, fields
from functools import lru_cache, partial
from threading import Lock
from typing import Any

from gmpo_vl.rewards.about import BOX_OR_TAG, About
from gmpo_vl.rewards.endpoint import NOT_ASKED, Failed, Request, ask, library, replies_in
from gmpo_vl.rewards.judging import Settings, data_uri, question, rendered, verdict_of
from gmpo_vl.rewards.scoring import verdicts_of
from gmpo_vl.verify import parse_gold

REWARD_NAME = "judge"
REWARD_TYPE = "batch"
ABOUT = About(
    when="Answers that no rule can compare with the gold: explanations, descriptions, long answers in words.",
    gold="what a right answer says, in words",
    reads=f"{BOX_OR_TAG}; without one the whole response is judged",
    examples=(("a red ball", r"It shows \boxed{a red ball}."),),
    example_options={"model": "any", "api_key_env": None},
    options={
        "model": "name by which the endpoint knows it; must be given",
        "base_url": "the endpoint, for example http://localhost:8000/v1",
        "api_key_env": "name of the environment variable with the API key; null: the endpoint asks for none",
        "prompt": "a jinja file; null: the packaged one. Given problem, golds, choices (as `A. TEXT`), "
        "response, answer, pictures (how many) and mark",
        "with_images": "send the row's pictures",
        "max_pixels": "of a picture that is sent; a larger one is scaled down",
        "verify_first": "what the verifier takes for equal is right, and not asked; null: so with the "
        "packaged prompt, not with one of your own",
        "temperature": "of the judge; null: not sent",
        "seed": "of the judge; null: not sent",
        "max_tokens": "of the reply, thoughts included; null: not sent",
        "extra_body": "more keys of the request, such as max_completion_tokens",
        "concurrency": "questions at once",
        "timeout": "seconds of one try",
        "deadline": "seconds of all questions of a step together",
        "max_retries": "of one question, after 408, 409, 429, 5xx or no connection; waits grow, or are as "
        "long as Retry-After says",
        "max_failed_share": "of a step's responses without a verdict, rounded up to a whole number; more end "
        "the run",
        "cache": "folder of the replies; null: ~/.cache/gmpo_vl/judge (XDG_CACHE_HOME)",
    },
)
ASKS_ENDPOINT = True  # checks before a run do not call it unless they are told to


def REWARD_INPUTS(with_images: bool = False) -> tuple[str, ...]:
    return ("problem", "stored_images") if with_images else ("problem",)


def REWARD_CHECK(**options: Any) -> None:
    """Raise ValueError for options that cannot be, before a run begins. Asks the endpoint nothing."""
    library()
    settings = Settings(**options)
    shown = "an answer to be seen"
    values = {"problem": "", "golds": [""], "choices": [], "pictures": 0, "mark": ""}
    if shown not in rendered(settings.template(), **values, response=shown, answer=shown):
        raise ValueError(
            f"reward judge: {settings.prompt} shows the judge no answer: write {{{{ answer or response }}}} "
            "in it"
        )


def compute_score(reward_inputs: list[dict[str, Any]], **options: Any) -> list[dict[str, float | None]]:
    """`overall`, `format` (there was an answer in its place), `accuracy` and `unscored` per input.

    options: those of `Settings`. `overall` is None where there is no verdict. Raises ConnectionError where
    more than `max_failed_share` of the inputs have none.
    """
    settings = Settings(**options)
    checked = verdicts_of(reward_inputs, answer_in=settings.answer_in)
    right: dict[int, Any] = {}
    if settings.asks_verifier():
        right = {i: True for i, verdict in enumerate(checked) if verdict.correct}
    left = [i for i in range(len(reward_inputs)) if i not in right]
    if left:
        answers = {i: checked[i].extracted for i in left}
        right |= dict(zip(left, _asked(settings, reward_inputs, answers)))
    return [
        _score(settings.format_weight, right[i], verdict.extracted is not None)
        for i, verdict in enumerate(checked)
    ]


def _asked(
    settings: Settings, reward_inputs: list[dict[str, Any]], answers: dict[int, str | None]
) -> list[bool | Failed]:
    """The verdicts about some inputs. answers: what each has in its box or tag."""
    first_with: dict[int, int] = {}  # the responses to a prompt share its pictures
    first = {i: first_with.setdefault(id(reward_inputs[i].get("stored_images")), i) for i in answers}
    one_at_a_time = Lock()

    @lru_cache(maxsize=settings.concurrency)
    def pictures_of(i: int) -> list[str]:
        sources = reward_inputs[i].get("stored_images", ())
        return [data_uri(source, settings.max_pixels) for source in sources]

    def request(i: int, answer: str | None) -> Request:
        given = reward_inputs[i]
        with one_at_a_time:
            pictures = pictures_of(first[i])
        return question(settings, given, parse_gold(given["ground_truth"]), answer, pictures)

    requests = [partial(request, i, answer) for i, answer in answers.items()]
    most = math.ceil(settings.max_failed_share * len(reward_inputs))
    found = ask(settings.endpoint(), requests, verdict_of, replies_in(settings.folder()), most)
    _check_failures(settings, found, most, len(reward_inputs))
    return found


def _score(weight: float, right: bool | Failed, form: bool) -> dict[str, float | None]:
    if isinstance(right, Failed):
        return {"overall": None, "unscored": 1.0}
    overall = (1 - weight) * right + weight * form
    return {"overall": overall, "format": float(form), "accuracy": float(right), "unscored": 0.0}


def _check_failures(settings: Settings, found: list[Any], most: int, count: int) -> None:
    problems = Counter(one.problem for one in found if isinstance(one, Failed) and one is not NOT_ASKED)
    if problems.total() <= most:
        return
    told = "; ".join(f"{times:,} x {problem}" for problem, times in problems.most_common(3))
    raise ConnectionError(
        f"reward judge: {problems.total():,} of {count:,} responses have no verdict of {settings.model} at "
        f"{settings.base_url}, more than max_failed_share {settings.max_failed_share:g} allows: {told}. "
        "The same command goes on (training from the last checkpoint): what was answered is "
        f"in {settings.folder()} and is not asked again, the others are. Where it ends here again, raise "
        "max_failed_share or mend the prompt"
    )


def _signature() -> inspect.Signature:
    """The options by name: what a configuration's are held against."""
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    options = []
    for item in fields(Settings):
        default = {} if item.default_factory is not MISSING else item.default
        default = inspect.Parameter.empty if default is MISSING else default
        options.append(inspect.Parameter(item.name, either, default=default))
    return inspect.Signature([inspect.Parameter("reward_inputs", either), *options])


compute_score.__signature__ = _signature()  # type: ignore[attr-defined]
