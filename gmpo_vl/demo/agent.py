"""`gmpo-vl demo --agent`: a tiny Qwen2.5-VL is trained on a game that it sees as pictures, on a CPU.

Reads top to bottom: levels, games won before, training with GMPO, games won after, two controls, the page. It
calls as functions what `gmpo-vl train` does with a real model.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from gmpo_vl.demo.before_and_after import Demo, begin, control, print_limits, said_of_control
from gmpo_vl.engines.local.engine import train
from gmpo_vl.environments.gridworld import MOVES, GridWorld, expert, export, make_examples
from gmpo_vl.evaluation.answering import Conditions, Evaluation, evaluate
from gmpo_vl.evaluation.protocols import Pictures
from gmpo_vl.evaluation.statistics import paired_difference
from gmpo_vl.models.loading import load_model
from gmpo_vl.models.processing import load_processor
from gmpo_vl.models.prompts import load_prompts, prompt_settings
from gmpo_vl.models.tiny import packaged_gridworld
from gmpo_vl.progress import phase_bar
from gmpo_vl.report import write_report
from gmpo_vl.rollout.episodes import first_turns
from gmpo_vl.samples import episodes
from gmpo_vl.setup import load_configured_environment
from gmpo_vl.storage.files import write_json
from gmpo_vl.types import Example, Sampling

CONFIG = Path(__file__).with_name("agent.yaml")
TEST_PROBLEMS = 256  # levels
VALIDATION_LEVELS = 64
EPISODES = 2  # of each test level
GUESS = " to ?? "  # of an answer that moves at random (recipes/warm_up_gridworld.py)
LIMITS = (
    "That the model learned to see or to plan. Its warm-up copied a searching expert, and then made it guess "
    "at half of its turns. Half of the gain is undoing that: kept from guessing, it wins 16% untrained.",
    "That GMPO does better than GRPO: with one update a step every ratio is 1, and their gradients are the "
    "same. It takes both, tuned alike, and several seeds (gmpo-vl study).",
    "What a real vision-language model gains on ALFWorld: the model here has 0.5 million parameters.",
    "How much runs differ: the interval is over levels, not over seeds. Seeds 1 to 4 gained 10 to 13 points.",
)


def run(config_file: str | Path, test_levels: int, overrides: Sequence[str]) -> None:
    """The whole demo. overrides: a.b=c, over the file's keys."""
    start = time.perf_counter()
    model = packaged_gridworld()
    demo = begin(config_file, test_levels, [f"worker.actor.model.model_path={model}", *overrides])
    levels = make_examples("test", test_levels)

    print("1. levels: where key, door and walls are stands in the picture only", flush=True)
    export(demo.data, {"train": 2048, "validation": VALIDATION_LEVELS, "test": test_levels})

    print(f"2. before: {EPISODES} games of each test level at temperature 1", flush=True)
    before = played(demo, model, "before", EPISODES)

    print("3. training with GMPO", flush=True)
    trained_run = train(demo.config)

    print("4. after, and two controls: a grey picture, and another game's picture", flush=True)
    trained = trained_run.checkpoint(trained_run.checkpoint_steps()[-1]) / "huggingface"
    after = played(demo, trained, "after", EPISODES)
    turns = demo.config.environment.max_turns
    blank = played(demo, trained, "blank_image", 1, "blank")
    wrong = played(demo, trained, "wrong_game", 1, "wrong")
    controls = {
        **control("blank_image", blank.correct_Q(), after.correct_Q()),
        **control("wrong_game", wrong.correct_Q(), after.correct_Q()),
        "random_moves": without_model(levels, turns, at_random),
        "expert": without_model(levels, turns, as_expert),
    }
    summary = summarise(before, after, controls, time.perf_counter() - start)
    write_json(demo.folder / "summary.json", summary)
    page = write_report(demo.folder)
    print_summary(summary)
    print(f"\npage     {page}\nsummary  {demo.folder / 'summary.json'}")


def played(demo: Demo, model: Path, name: str, n: int, pictures: Pictures = "as_is") -> Evaluation:
    """The model's games of the test levels, n of each, in eval/NAME. pictures: what it sees."""
    config, source = demo.config, str(demo.data / "test.parquet")
    processor, make = load_processor(model), load_configured_environment(config)
    assert make is not None
    shown = partial(first_turns, make, run_seed=1)
    prompts = load_prompts(source, prompt_settings(config.data), processor, shown)
    sampling = Sampling(n, config.data.max_response_length)
    conditions = Conditions(sampling, pictures=pictures, environment=asdict(config.environment))
    with phase_bar(name, len(prompts)) as advance:
        return evaluate(load_model(model).eval(), prompts, conditions, demo.folder / "eval" / name, advance)


def turns_of(evaluation: Evaluation) -> float:
    """Mean turns of a game."""
    return len(evaluation.records) / len(episodes(evaluation.records))


def guesses_of(evaluation: Evaluation) -> float:
    """Share of turns that are answered by a guess."""
    return sum(GUESS in record.response for record in evaluation.records) / len(evaluation.records)


def without_model(
    levels: Sequence[Example], turns: int, player: Callable[[GridWorld, random.Random], str]
) -> float:
    """The share of games that a player wins who is no model, of the same levels, as often."""
    wins = 0
    for level in levels:
        for k in range(EPISODES):
            game, rng = GridWorld(level), random.Random(f"{level.id}/{k}")
            game.reset(0)
            steps = (game.step(player(game, rng)) for _ in range(turns))
            last = next((step for step in steps if step.ended), None)
            wins += last is not None and bool(last.info["won"])
    return wins / (len(levels) * EPISODES)


def at_random(_game: GridWorld, rng: random.Random) -> str:
    return rng.choice(list(MOVES))


def as_expert(game: GridWorld, rng: random.Random) -> str:
    """The warm-up's expert, who knows what the picture shows and no more."""
    return expert(game.seen, game.at, None if game.has_key else game.level.key, rng)[1]


def summarise(
    before: Evaluation,
    after: Evaluation,
    controls: dict,
    seconds: float,
) -> dict:
    """summary.json. Shares are 0 to 1; the interval is over levels, paired."""
    before_Q, after_Q = before.correct_Q(), after.correct_Q()
    difference = paired_difference(before_Q, after_Q)
    return {
        "what": "games won",
        "unit": "level",
        "metric": f"{EPISODES} games of each test level of the grid world, temperature 1",
        "questions": len(before_Q),
        "before": float(before_Q.mean()),
        "after": float(after_Q.mean()),
        "diff": difference.value,
        "diff_ci95": [difference.low, difference.high],
        "turns_before": turns_of(before),
        "turns_after": turns_of(after),
        "guesses_before": guesses_of(before),
        "guesses_after": guesses_of(after),
        **controls,
        "limits": list(LIMITS),
        "seconds": seconds,
    }


def print_summary(s: dict) -> None:
    low, high = (100 * x for x in s["diff_ci95"])
    print(f"\n{s['questions']} test levels x {EPISODES}, share of games won in percent")
    print(f"{'':28}{'before':>8}{'after':>8}")
    print(f"{'won at temperature 1':28}{100 * s['before']:8.1f}{100 * s['after']:8.1f}   "
          f"{100 * s['diff']:+.1f}, 95% interval {low:+.1f} to {high:+.1f} (paired by level)")  # fmt: skip
    print(f"{'turns of a game':28}{s['turns_before']:8.1f}{s['turns_after']:8.1f}")
    print(f"{'guesses, percent of turns':28}{100 * s['guesses_before']:8.1f}{100 * s['guesses_after']:8.1f}")
    grey = said_of_control(s, "blank_image", "the model does need its picture")
    print(f"{'grey picture':28}{'':8}{100 * s['blank_image']:8.1f}   {grey}")
    other = said_of_control(s, "wrong_game", "and the right one")
    print(f"{'picture of another game':28}{'':8}{100 * s['wrong_game']:8.1f}   {other}")
    print(f"{'moves at random':28}{'':8}{100 * s['random_moves']:8.1f}")
    print(f"{'the warm-up expert':28}{'':8}{100 * s['expert']:8.1f}   it searches, as the model must")
    print_limits(s)
