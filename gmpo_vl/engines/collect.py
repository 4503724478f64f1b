"""One step's groups: prompts in order, rollouts, scores, online filtering, advantages; and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gmpo_vl.config import AlgorithmConfig
from gmpo_vl.engines.advantages import fill_advantages, scored_of, without_gradient
from gmpo_vl.engines.answering import answered, with_lost
from gmpo_vl.engines.session import Session
from gmpo_vl.progress import phase_bar
from gmpo_vl.rollout.episodes import FAILED, Outcome, episode_figures, say_won
from gmpo_vl.rollout.scoring import accuracy, mean_parts
from gmpo_vl.setup import sampling_of
from gmpo_vl.types import Group


@dataclass
class Collected:
    """A step's groups, and what it took to get them.

    position: where in the data order the next step begins. carried: groups with variance beyond this step's
    need, for the next step, with the log-probs of the policy that wrote them; their advantages are made in
    the step that trains on them, among its groups. generated: how many were sampled in this step. figures: of
    the advantages. outcomes: of every episode played in this step. says_won: do these games say `won`?
    """

    groups: list[Group]
    position: int
    carried: list[Group] = field(default_factory=list)
    generated: int = 0
    tries: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    says_won: bool = False


def collect(s: Session, step: int) -> Collected:
    """`rollout_batch_size` scored groups with advantages, sampled by the current policy.

    With `algorithm.online_filtering` a group is kept if the mean of `filter_key` lies strictly between
    filter_low and filter_high. More prompts are sampled until enough are kept, or `max_try_make_batch`
    batches were (-1: no limit). Then groups that were not kept fill the step up: their gradient is 0, and the
    run goes on.
    """
    config, algorithm = s.config, s.config.algorithm
    wanted, filtering = config.data.rollout_batch_size, algorithm.online_filtering
    limit = config.trainer.max_try_make_batch if filtering else 1
    count = (config.data.mini_rollout_batch_size if filtering else None) or wanted
    result = Collected([], s.progress.position)
    kept, others = list(s.progress.carried), []
    with s.engine.sampler():
        while len(kept) < wanted and (
            limit == -1 or result.tries < limit or len(kept) + len(others) < wanted
        ):
            asked = s.next_prompts(result.position, count)
            positions = range(result.position, result.position + count)
            with phase_bar(f"step {step}: rollouts", count) as advance:
                played = answered(s, asked, positions, sampling_of(config), advance)
            s.progress.says_won |= say_won(played.outcomes)
            for group in played.groups:
                shape_overlong(group, algorithm, config.data.max_response_length)
            if filtering and not s.told_filter and (doubt := filter_doubt(played.groups, algorithm)):
                print(f"WARNING: {doubt}", flush=True)
                s.told_filter = True
            for group in played.groups:
                (kept if not filtering or has_variance(group, algorithm) else others).append(group)
            result.position += count
            result.generated += len(played.groups)
            result.outcomes += played.outcomes
            result.tries += 1
    if result.outcomes and all(outcome.ending.kind in FAILED for outcome in result.outcomes):
        said = f"all {len(result.outcomes)} episodes broke: nothing is learned from them"
        print(f"WARNING: {said}", flush=True)
    if s.progress.says_won:  # in an earlier try perhaps nobody had said it
        kept, others = list(map(with_lost, kept)), list(map(with_lost, others))
    result.groups = (kept + others)[:wanted]
    result.carried = kept[wanted:]
    result.says_won = s.progress.says_won
    result.figures = fill_advantages(result.groups, algorithm)
    return result


def has_variance(group: Group, algorithm: AlgorithmConfig) -> bool:
    """Is the group's mean score neither (almost) the lowest nor the highest: does it teach anything?"""
    values = filtered_by(group, algorithm)
    return bool(values) and algorithm.filter_low < mean(values) < algorithm.filter_high


def filter_doubt(groups: Sequence[Group], algorithm: AlgorithmConfig) -> str | None:
    """What is wrong where the filter's limits are in another unit than the scores of a batch; or None.

    They are where limits of shares meet other scores, and where all scores, which differ, lie on one side of
    the limits.
    """
    values = [found for group in groups if (found := filtered_by(group, algorithm))]
    low, high = algorithm.filter_low, algorithm.filter_high
    kept = sum(low < mean(found) < high for found in values)
    least, most = min(map(min, values), default=0.0), max(map(max, values), default=0.0)
    of_shares = low >= 0 and high <= 1 and not 0 <= least <= most <= 1
    if not of_shares and not (least < most and (most <= low or least >= high)):
        return None
    by = f"`{algorithm.filter_key}`"
    if not any(algorithm.filter_key in score for group in groups for score in group.scores):
        by = "`overall`, as no score has the part `accuracy` (of games: none said `won`)"
    return (
        f"algorithm.online_filtering keeps {kept} of {len(groups)} groups: it goes by {by}, in this batch "
        f"from {least:g} to {most:g}, and filter_low {low:g} and filter_high {high:g} are limits of a "
        "group's mean. Write algorithm.filter_low and filter_high in the unit of these scores"
    )


def filtered_by(group: Group, algorithm: AlgorithmConfig) -> list[float]:
    """The part `filter_key` of the scored responses that have it; none where none is scored.

    Raises ValueError where no scored one has it.
    """
    key = algorithm.filter_key
    scored = scored_of(group)
    values = [
        accuracy(score) if key == "accuracy" else score[key]
        for score in scored
        if key == "accuracy" or key in score
    ]
    if scored and not values:
        parts = ", ".join(dict.fromkeys(name for score in group.scores for name in score))
        raise ValueError(
            f"algorithm.filter_key={key!r}: no score of {group.key} has that part; it has {parts}"
        )
    return values


def shape_overlong(group: Group, algorithm: AlgorithmConfig, max_response_length: int) -> None:
    """`soft`: lower the score linearly over the last `overlong_buffer` tokens before the limit (DAPO, Eq.
    13).

    The part taken away is logged as `overlong`, which `reward_weights` can name as any other part. `score`
    leaves the score as it is; `mask` acts in the loss.
    """
    if algorithm.overlong_responses != "soft":
        return
    buffer = algorithm.overlong_buffer
    assert buffer is not None  # the configuration refuses `soft` without it
    for response, score in zip(group.responses, group.scores):
        excess = len(response.ids_T) - (max_response_length - buffer)
        penalty = algorithm.overlong_penalty * min(1.0, max(0.0, excess / buffer))
        score["overall"] -= penalty
        score["overlong"] = -penalty


def group_metrics(collected: Collected) -> dict[str, float]:
    """Figures of the groups that are trained on; `filter/*` and `episode/*` are of everything generated
    (docs/formats.md)."""
    groups = collected.groups
    responses = [r for g in groups for r in g.responses]
    lengths = [len(r.ids_T) for r in responses]
    prompts = [len(prompt.ids_P) for g in groups for prompt in g.prompts]
    parts = mean_parts(score for group in groups for score in group.scores)
    metrics = {f"reward/{name}": value for name, value in parts.items()}
    metrics |= collected.figures | episode_figures(collected.outcomes, collected.says_won)
    metrics |= {
        "response_length/mean": mean(lengths),
        "response_length/max": float(max(lengths)),
        "response_length/min": float(min(lengths)),
        "prompt_length/mean": mean(prompts),
        "prompt_length/max": float(max(prompts)),
        "rollout/truncated": mean([not r.finished for r in responses]),
        "group/zero_variance": mean([without_gradient(group) for group in groups]),
        "filter/tries": float(collected.tries),
        "filter/generated_prompts": float(collected.generated),
    }
    verdicts = [v for g in groups for v in g.verdicts if v is not None]
    if verdicts:
        metrics["verify/no_answer"] = mean([v.extracted is None for v in verdicts])
        metrics["verify/timeout"] = mean([v.outcome == "timeout" for v in verdicts])
    return metrics


def mean(values: Sequence[float | bool]) -> float:
    return sum(values) / len(values) if values else 0.0
