"""GMPO in one file: a tiny Qwen2.5-VL gets better at reading diagrams, on a CPU, in under a minute.

    python examples/gmpo_in_one_file.py [--steps 8] [--problems 16] [--rollouts 8] [--lr 1e-3]

One step, top to bottom: sample rollouts, verify the answers, advantages within each group (Eq. 1), log-probs
of the old policy, then two updates with Eq. 5. What the package's engines do besides is left out: prompts
computed once per group, micro-batches by token budget, several GPUs, KL, checkpoints, a page. Their gradient
is the same: a test holds them equal.

From gmpo_vl come the model (an ordinary transformers one), problems, processor, sampler and verifier.
"""

from __future__ import annotations

import argparse
import time

import torch

from gmpo_vl.models.families.qwen import make_patches
from gmpo_vl.models.loading import banned_ids, load_model
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.models.tiny import packaged_tiny
from gmpo_vl.rollout.hf import generate
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Prompt, Sampling
from gmpo_vl.verify import verify

CLIP = 0.4  # of the log-ratio: a token's ratio counts within [e^-0.4, e^0.4]
UPDATES = 2  # a step, each on half of the prompts: the second is off-policy, so its ratios differ from 1
MAX_TOKENS = 32  # of a response


def group_advantages(rewards_G: torch.Tensor) -> torch.Tensor:
    """Eq. 1: how much better each response is than the others to the same prompt; 0 where all are alike."""
    if (rewards_G == rewards_G[0]).all():
        return torch.zeros_like(rewards_G)
    return (rewards_G - rewards_G.mean()) / (rewards_G.std() + 1e-6)


def padded(responses: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of G responses (G, T), filled up with 0, and the mask of what is a token."""
    ids_GT = torch.nn.utils.rnn.pad_sequence(responses, batch_first=True)
    lengths_G1 = torch.tensor([[len(ids_T)] for ids_T in responses])
    return ids_GT, torch.arange(ids_GT.shape[1]) < lengths_G1


def response_log_probs(
    model, processor, prompt: Prompt, ids_GT: torch.Tensor, mask_GT: torch.Tensor
) -> torch.Tensor:
    """log pi of each token of G responses to one prompt (G, T), by transformers' own forward."""
    count, longest = ids_GT.shape
    asked = len(prompt.ids_P)
    # Qwen2.5-VL counts positions in time, height and width; from the response on the three are the same.
    response_3T = (prompt.position_ids_3P.max() + 1 + torch.arange(longest)).expand(3, longest)
    positions_3L = torch.cat([prompt.position_ids_3P, response_3T], dim=-1)
    patches = torch.cat([make_patches(image, processor.image) for image in prompt.images])
    logits_GLV = model(
        input_ids=torch.cat([prompt.ids_P.expand(count, asked), ids_GT], dim=-1),
        attention_mask=torch.cat([torch.ones(count, asked), mask_GT], dim=-1).long(),
        position_ids=positions_3L[:, None].expand(3, count, asked + longest),
        pixel_values=patches.to(model.dtype).repeat(count, 1),
        image_grid_thw=prompt.image_grid_thw.repeat(count, 1),
        use_cache=False,
    ).logits
    logits_GTV = logits_GLV[:, asked - 1 : -1].clone()  # the logits at a position are about the next token
    # A response has no image tokens: the sampler bans them, so the policy does.
    logits_GTV[..., list(banned_ids(model.config))] = -torch.inf
    return logits_GTV.log_softmax(-1).gather(-1, ids_GT[..., None]).squeeze(-1)


def gmpo_loss(
    log_probs_GT: torch.Tensor,
    old_log_probs_GT: torch.Tensor,
    mask_GT: torch.Tensor,
    advantages_G: torch.Tensor,
) -> torch.Tensor:
    """-J of each response, Eq. 5: its advantage times the geometric mean of its tokens' clipped ratios.

    min[rho A, clip(rho) A] bounds the ratio from above where A > 0 and from below where A < 0. GRPO takes the
    arithmetic mean instead, which one token with a large ratio can decide; in the geometric mean it is one
    log-ratio among many.
    """
    log_ratio_GT = log_probs_GT - old_log_probs_GT
    better_G1 = (advantages_G > 0)[:, None]
    clipped_GT = torch.where(better_G1, log_ratio_GT.clamp(max=CLIP), log_ratio_GT.clamp(min=-CLIP))
    # GRPO: (clipped_GT.exp() * mask_GT).sum(-1) / mask_GT.sum(-1)
    geometric_mean_G = ((clipped_GT * mask_GT).sum(-1) / mask_GT.sum(-1)).exp()
    return -advantages_G * geometric_mean_G


def backward(model, processor, groups) -> float:
    """Adds the gradient of the mean loss over all responses, one group at a time; returns that mean."""
    count = sum(len(advantages_G) for *_, advantages_G in groups)
    total = 0.0
    for prompt, ids_GT, mask_GT, old_GT, advantages_G in groups:
        if not advantages_G.any():
            continue  # nothing to learn; its responses still count in the mean
        log_probs_GT = response_log_probs(model, processor, prompt, ids_GT, mask_GT)
        loss = gmpo_loss(log_probs_GT, old_GT, mask_GT, advantages_G).sum() / count
        loss.backward()
        total += loss.item()
    return total


def main(arguments: list[str] | None = None) -> list[float]:
    """Trains and prints a line a step. Returns each step's share of right answers (in training)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8, help="steps (default 8)")
    parser.add_argument(
        "--problems", type=int, default=16, help="problems, all of them in each step (default 16)"
    )
    parser.add_argument("--rollouts", type=int, default=8, help="responses to each problem (default 8)")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of AdamW (default 1e-3)")
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)  # more only wait for each other at this size
    model, processor = load_model(packaged_tiny()), load_processor(packaged_tiny())
    prompts = [
        encode_prompt(example, processor) for example in make_examples("train", options.problems, seed=0)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.0)
    scores = []
    for step in range(1, options.steps + 1):
        start = time.perf_counter()
        # 1. Rollouts: G responses to each problem, at temperature 1.
        rollouts = generate(model, processor, prompts, Sampling(options.rollouts, MAX_TOKENS, seed=step))
        groups, rewards = [], []
        for prompt, rollout in zip(prompts, rollouts):
            # 2. Verify: 1 for a right answer in the last \boxed{}, else 0.
            right = [verify(prompt.example.answer, response.text).correct for response in rollout.responses]
            rewards += right
            # 3. Advantages, and log-probs of the policy that wrote the responses.
            advantages_G = group_advantages(torch.tensor(right, dtype=torch.float32))
            ids_GT, mask_GT = padded([response.ids_T for response in rollout.responses])
            with torch.no_grad():
                old_GT = response_log_probs(model, processor, prompt, ids_GT, mask_GT)
            groups.append((prompt, ids_GT, mask_GT, old_GT, advantages_G))
        # 4. Updates.
        losses = []
        for update in range(UPDATES):
            optimizer.zero_grad()
            losses.append(backward(model, processor, groups[update::UPDATES]))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        scores.append(sum(rewards) / len(rewards))
        seconds = time.perf_counter() - start
        print(
            f"step {step}: right {scores[-1]:.1%}, loss {sum(losses) / UPDATES:+.4f}, {seconds:.1f} s",
            flush=True,
        )
    return scores


if __name__ == "__main__":
    main()
