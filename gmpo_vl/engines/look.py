"""`look/*`: does the policy look at the pictures? (docs/look.md)

The policy of now answers a few questions with their own pictures, and with pictures of the same sizes that
belong to questions with other answers. The gain says how much surer it is of its answers with the right
picture; the accuracy gap says how many right answers it loses without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gmpo_vl.engines.session import Engine, Session
from gmpo_vl.models.other_pictures import with_grey_pictures, with_pictures_of
from gmpo_vl.policy.look import gains, mean_and_error
from gmpo_vl.progress import phase_bar
from gmpo_vl.rollout.scoring import accuracy, score_groups
from gmpo_vl.setup import sampling_of
from gmpo_vl.types import Group, Prompt

SAMPLES = 2  # answers to a question with each picture: more prompts lower the errors more than more answers


def measure_look(s: Session) -> dict[str, float]:
    """`look/*` of the current policy. Seeds depend on the run's seed, the step, the prompt and the sample.

    Answers are drawn as the policy is trained: at `worker.rollout.temperature`, of the whole distribution.
    """
    assert s.look is not None
    count = len(s.look.pairs)
    own = s.look.prompts.encode([i for i, _ in s.look.pairs])
    others = s.look.prompts.encode([j for _, j in s.look.pairs])
    swapped = [with_pictures_of(prompt, other) for prompt, other in zip(own, others)]
    sampling = replace(sampling_of(s.config), n=SAMPLES, top_p=1.0, top_k=-1, with_entropy=False)
    occasion = -2 - s.progress.step  # training has 0 and more, the start's answers (kl_probe.py) -1
    with s.engine.keeping_features():
        with s.engine.sampler(), phase_bar("look", 2 * count) as advance:
            groups = s.sample([*own, *swapped], [occasion] * (2 * count), sampling, advance)
        found = _gains(s.engine, groups[:count], own, swapped)
    assert s.reward is not None  # the configuration refuses the look with games
    score_groups(groups, s.reward)
    return {"look/prompts": float(count), **found, **_accuracies(groups[:count], groups[count:])}


def _gains(
    engine: Engine, answered: Sequence[Group], own: Sequence[Prompt], swapped: Sequence[Prompt]
) -> dict[str, float]:
    """The answers' log-probs with the pictures that they were given to, against other pictures."""
    prompts = {"own": own, "swapped": swapped, "blank": [with_grey_pictures(prompt) for prompt in own]}
    groups = [
        Group(f"{name} {i}", prompt, group.responses)
        for name, of_kind in prompts.items()
        for i, (prompt, group) in enumerate(zip(of_kind, answered))
    ]
    of, count = engine.log_probs(groups).of, len(answered)
    metrics = {}
    for name, others in (("swapped", of[count : 2 * count]), ("blank", of[2 * count :])):
        found = mean_and_error([gains(*pair) for pair in zip(of[:count], others)])
        metrics[f"look/gain_{name}"], metrics[f"look/gain_{name}_se"] = found
    return metrics


def _accuracies(own: Sequence[Group], swapped: Sequence[Group]) -> dict[str, float]:
    """Over the prompts with an answer of each kind that the reward could score; nothing of fewer than 2."""
    pairs = [(_scored(one), _scored(other)) for one, other in zip(own, swapped)]
    pairs = [(right, wrong) for right, wrong in pairs if right and wrong]
    if len(pairs) < 2:
        return {}
    (right, _), (wrong, _) = (mean_and_error(of_kind) for of_kind in zip(*pairs))
    gap, error = mean_and_error([[sum(a) / len(a) - sum(b) / len(b)] for a, b in pairs])
    return {
        "look/accuracy": right,
        "look/accuracy_swapped": wrong,
        "look/accuracy_gap": gap,
        "look/accuracy_gap_se": error,
    }


def _scored(group: Group) -> list[float]:
    return [accuracy(score) for score in group.scores if not score.get("unscored")]
