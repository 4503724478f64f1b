"""The reward on a right and a wrong answer, and the model on a blank picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel

from gmpo_vl.batching.packing import pack
from gmpo_vl.models.forward import response_log_probs
from gmpo_vl.models.loading import banned_ids
from gmpo_vl.models.processing import Processor
from gmpo_vl.preflight.findings import Finding
from gmpo_vl.preflight.golds import FORMS, WRONG, right_answer
from gmpo_vl.rewards.loading import Reward
from gmpo_vl.types import Example, Prompt
from gmpo_vl.verify import parse_gold

# Below this no token's probability moved: what rounding alone does is smaller still.
SMALLEST_CHANGE = 1e-4
REWARD_KEY = "worker.reward.reward_function"


def check_reward(reward: Reward, examples: Sequence[Example]) -> Iterator[Finding]:
    """Right answers of some rows, in the form that the reward likes best, against wrong ones in the same form."""
    scores: list[tuple[float, float, str]] = []
    for form in FORMS:
        tried = [(e, right_answer(parse_gold(e.answer))[0]) for e in examples]
        inputs = [
            {"response": form.format(text), "response_length": len(text), "ground_truth": e.answer}
            for e, right in tried
            if right is not None
            for text in (right, WRONG)
        ]
        if not inputs:
            yield Finding(
                "note",
                "reward",
                "no gold of the first rows can be written as an answer: not tried",
                REWARD_KEY,
            )
            return
        try:
            found = [score["overall"] for score in reward(inputs)]
        except Exception as error:  # a reward is anybody's code
            yield Finding(
                "error",
                "reward",
                f"it fails on {form!r}: {type(error).__name__}: {error}",
                REWARD_KEY,
                "mend the reward file",
            )
            return
        half = len(found) // 2
        scores.append((sum(found[::2]) / half, sum(found[1::2]) / half, form))
    right, wrong, form = max(scores, key=lambda s: (s[0] - s[1], s[0]))
    shown = form.format("ANSWER")
    if right <= wrong:
        yield Finding(
            "error",
            "reward",
            f"a right answer is worth {right:.2f} and a wrong one {wrong:.2f} in every form that was tried",
            REWARD_KEY,
            "another reward, or another form of the golds: nothing can be learned from this one",
        )
        return
    yield Finding(
        "ok", "reward", f"right answers are worth {right:.2f}, wrong ones {wrong:.2f}, written as {shown}"
    )


def check_sight(
    model: PreTrainedModel, where: str, processor: Processor, prompt: Prompt, answer: str
) -> Iterator[Finding]:
    """Do the log-probs of an answer change when the picture turns grey?"""
    ids_T = torch.tensor(processor.tokenizer(answer, add_special_tokens=False)["input_ids"])
    grey = Prompt(
        prompt.example,
        prompt.text,
        prompt.ids_P,
        tuple(torch.full_like(image, 128) for image in prompt.images),
        prompt.image_grid_thw,
        prompt.position_ids_3P,
    )
    rows = []
    for seen in (prompt, grey):
        packed = pack([(seen, ids_T)], processor.image, model.device)
        with torch.no_grad():
            log_probs_1T, _ = response_log_probs(model, packed, 1.0, banned_ids(model.config))
        rows.append(log_probs_1T[0])
    gap = float((rows[0] - rows[1]).abs().max())
    if not gap > SMALLEST_CHANGE:  # NaN too
        yield Finding(
            "error",
            "sight",
            f"on a grey picture the log-probs of an answer change by {gap:.1e}: the model does not look",
            where,
            "a vision model whose pictures reach it (image tokens, processor, weights of the ViT)",
        )
        return
    yield Finding("ok", "sight", f"on a grey picture the log-probs of an answer change by up to {gap:.2g}")
