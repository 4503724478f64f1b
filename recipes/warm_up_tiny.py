"""Supervised warm-up of the packaged tiny Qwen2.5-VL, in two stages of minutes on one core.

    python recipes/warm_up_tiny.py --output WORKED --stop-at 1
    python recipes/warm_up_tiny.py --start WORKED --guesses 0.45 --steps 250 --lr 5e-4 --stop-at 1

The first stage teaches reading and worked solutions. The second gives the packaged model. It leaves it as
pretraining leaves a real one: sometimes it works a problem out, sometimes it guesses. Which of the two pays
it is not told; reinforcement learning has to find out. The same machine and versions give the same weights.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
from muon import learning_rate, make_optimizers, mean_loss, update

from gmpo_vl.models.compat import save_pretrained
from gmpo_vl.models.families.qwen import resize_image
from gmpo_vl.models.loading import banned_ids, load_model
from gmpo_vl.models.processing import Processor, encode_prompt, load_processor
from gmpo_vl.models.tiny import (
    SIZES,
    packaged_tiny,
    save_folder,
    save_tiny,
    tiny_qwen2_5_vl_config,
    tiny_tokenizer,
)
from gmpo_vl.rollout.hf import generate
from gmpo_vl.tasks.diagrams.data import FAMILIES, make_diagram
from gmpo_vl.tasks.diagrams.figures import SIZE, Figure, Label, label_box, paint
from gmpo_vl.types import Example, Prompt, Sampling

READ = "Read the numbers."


class Problems:
    """Prompts and answers as token ids. A question is encoded once; after that only the picture changes."""

    def __init__(self, processor: Processor):
        self.processor = processor
        self.encoded: dict[str, Prompt] = {}

    def prompt(self, name: str, question: str, answer: str, figure: Figure) -> Prompt:
        image = paint(figure)
        if question not in self.encoded:
            example = Example("", f"<image>{question}", "", (image,))
            self.encoded[question] = encode_prompt(example, self.processor)
        assert self.processor.image is not None
        example = Example(name, f"<image>{question}", answer, (), {"family": name.split("/")[0]})
        pixels = (resize_image(image, self.processor.image),)
        return replace(self.encoded[question], example=example, images=pixels)

    def ids(self, text: str) -> torch.Tensor:
        return torch.tensor(self.processor.tokenizer(text + "<|im_end|>")["input_ids"])

    def diagram(self, split, index: int, seed: int, guess: bool = False) -> tuple[Prompt, torch.Tensor]:
        """A problem with its worked solution, or as a guess: the answer alone."""
        d = make_diagram(split, index, seed)
        text = f"\\boxed{{{d.answer}}}" if guess else d.solution
        return self.prompt(f"{d.family}/{index}", d.question, d.answer, d.figure), self.ids(text)

    def reading(self, rng: random.Random, spread: float) -> tuple[Prompt, torch.Tensor]:
        """Six numbers to be read row by row: sight before geometry.

        spread 0: two digits in the middle of a merged patch, always the same six. spread 1: up to three
        digits, anywhere.
        """
        while True:
            numbers, labels = [], []
            for k in range(6):
                digits = rng.choice((1, 2, 2, 3)) if rng.random() < spread else 2
                numbers.append(rng.randrange(10 ** (digits - 1) if digits > 1 else 2, 10**digits))
                still, (low, high) = ((14, (14, 42)), (70, (70, 98)))[k % 2]
                x = still + spread * (rng.uniform(low, high) - still)
                still, (low, high) = ((14, (9, 34)), (42, (43, 69)), (98, (78, 103)))[k // 2]
                y = still + spread * (rng.uniform(low, high) - still)
                labels.append(Label(str(numbers[-1]), (x, y)))
            boxes = [label_box(label) for label in labels]
            inside = all(min(box) >= 1 and max(box) <= SIZE - 1 for box in boxes)
            if inside and all(boxes[k][2] + 3 < boxes[k + 1][0] for k in (0, 2, 4)):
                break
        text = " ".join(map(str, numbers))
        return self.prompt("reading", READ, text, Figure((), tuple(labels))), self.ids(text)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    folder = save_tiny(args.output, "demo", args.seed)
    processor, model = load_processor(folder), load_model(args.start or folder)
    if not args.start:
        with (
            torch.no_grad()
        ):  # a patch of one colour gives zero: the background, most of a picture, says nothing
            filters = model.model.visual.patch_embed.proj.weight
            filters -= filters.mean(dim=(1, 2, 3, 4), keepdim=True)
    problems = Problems(processor)
    rng = random.Random(f"warm-up/{args.seed}")
    check = [problems.diagram("validation", i, 0)[0] for i in range(28 * len(FAMILIES))]

    optimizers = make_optimizers(model, args.lr)
    drawn = 0
    for step in range(args.steps):
        done = step / args.steps
        rows = []
        for _ in range(args.batch):
            if rng.random() < (0.1 if args.start else reading_share(done)):
                rows.append(problems.reading(rng, spread(done) * rng.random() ** 0.5))
            else:
                rows.append(problems.diagram("warmup", drawn, args.seed, guess=rng.random() < args.guesses))
                drawn += 1
        loss = mean_loss(model, rows, processor.family, banned_ids(model.config))
        update(model, optimizers, loss, learning_rate(step, args.steps, args.lr, fall=0.55))
        if step % 25 == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}  {time.perf_counter() - start:5.0f} s", flush=True)
        if (done >= 0.4 or args.start) and step % args.check_every == 0:
            accuracy = score(model, processor, check, n=4)
            print("   " + describe(accuracy), flush=True)
            if args.snapshots:
                save_pretrained(model, Path(args.snapshots) / f"step_{step:04d}")
            if mean(accuracy) >= args.stop_at:
                break
    package(model, processor, folder, check)


def package(model, processor: Processor, folder: Path, check: list[Prompt]) -> None:
    """Write the weights as bfloat16, and a card with the accuracy they have as written."""
    tokenizer = tiny_tokenizer()
    save_folder(folder, model.to(torch.bfloat16), tiny_qwen2_5_vl_config(SIZES["demo"], tokenizer), tokenizer)
    written = load_model(folder)
    sampled = score(written, processor, check, n=16)
    greedy = score(written, processor, check, n=1, temperature=0.0)
    lines = [
        "# A tiny Qwen2.5-VL that has seen some diagrams",
        "",
        "0.85 million parameters, standard transformers classes, bfloat16. Made by "
        "`recipes/warm_up_tiny.py`, whose first lines",
        f"say the commands. Share of right answers on {len(check)} validation problems of the built-in "
        "diagrams:",
        "",
        "| family | 16 samples at temperature 1 | greedy |",
        "|---|---|---|",
        *(f"| {family} | {sampled[family]:.2f} | {greedy[family]:.2f} |" for family in sampled),
        f"| mean | {mean(sampled):.2f} | {mean(greedy):.2f} |",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), flush=True)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--output", default=str(packaged_tiny()), help="folder to write (default: the packaged one)")
    add("--start", help="go on from this model folder instead of random weights")
    add(
        "--guesses",
        type=float,
        default=0.0,
        help="share of problems answered without working, 0 to 1 (default 0)",
    )
    add("--seed", type=int, default=0, help="weights, pictures and order (default 0)")
    add("--steps", type=int, default=2400, help="length of the schedule in steps (default 2400)")
    add("--stop-at", type=float, default=0.45, help="validation accuracy that ends it, 0 to 1 (default 0.45)")
    add(
        "--check-every",
        type=int,
        default=50,
        help="steps between validations, from 40%% of the schedule on (default 50)",
    )
    add("--batch", type=int, default=16, help="pictures per step (default 16)")
    add("--lr", type=float, default=4e-3, help="peak learning rate of both optimizers (default 4e-3)")
    add("--snapshots", help="folder for the weights at every check (default: none)")
    return parser.parse_args()


def reading_share(done: float) -> float:
    """Share of reading pictures: 95% for the first 30% of the steps, then falling to 10% at 55%."""
    return 0.95 - 0.85 * min(max((done - 0.3) / 0.25, 0.0), 1.0)


def spread(done: float) -> float:
    """How far reading pictures may stray from the still ones: from 0 at 6% of the steps to 1 at 18%."""
    return min(max((done - 0.06) / 0.12, 0.0), 1.0)


def score(
    model, processor: Processor, prompts: list[Prompt], n: int, temperature: float = 1.0
) -> dict[str, float]:
    """Share of right samples per family; right: the box holds the gold to the letter."""
    right = defaultdict(list)
    sampling = Sampling(n=n, max_tokens=32, temperature=temperature, seed=1)
    for group in generate(model, processor, prompts, sampling):
        gold = f"\\boxed{{{group.prompt.example.answer}}}"
        right[group.prompt.example.meta["family"]] += [r.text.endswith(gold) for r in group.responses]
    return {family: sum(values) / len(values) for family, values in right.items()}


def mean(accuracy: dict[str, float]) -> float:
    return sum(accuracy.values()) / len(accuracy)


def describe(accuracy: dict[str, float]) -> str:
    families = "  ".join(f"{family} {value:.2f}" for family, value in accuracy.items())
    return f"mean {mean(accuracy):.3f}  {families}"


if __name__ == "__main__":
    main()
