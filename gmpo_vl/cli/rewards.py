"""`gmpo-vl rewards`: what each built-in reward pays for, on the terminal or as docs/rewards.md."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmpo_vl.rewards.about import Description

WIDEST = 100  # columns
OWN = "A reward of your own is one function in one file: docs/add/reward.md"


def add_rewards(commands: Any) -> None:
    """Register `rewards` with the command line's parser."""
    parser = commands.add_parser(
        "rewards", help="the built-in rewards: what they pay for, and when to take which"
    )
    parser.add_argument("name", nargs="?", help="one of them: golds, parts, options, examples")
    parser.add_argument("--markdown", action="store_true", help="all of them, as docs/rewards.md has them")
    parser.set_defaults(run=run_rewards)


def run_rewards(options: argparse.Namespace) -> int:
    from gmpo_vl.rewards.about import describe
    from gmpo_vl.rewards.loading import built_in_rewards

    if options.markdown:
        print(markdown([describe(name) for name in built_in_rewards()]), end="")
        return 0
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 0)).columns)
    if options.name is None:
        print(overview([describe(name) for name in built_in_rewards()], width))
    else:
        print(in_full(describe(options.name), width))
    return 0


def overview(rewards: Iterable[Description], width: int) -> str:
    """A paragraph each: what it pays for, and when to take it."""
    parts = [paragraph(one.name, f"{one.pays[0]}\nwhen: {one.about.when}", width) for one in rewards]
    ways = "worker.reward.reward_function=NAME takes one; gmpo-vl rewards NAME says more"
    return "\n".join([*parts, "", *textwrap.wrap(ways, width), *textwrap.wrap(OWN, width)])


def in_full(one: Description, width: int) -> str:
    said = [f"{one.name}", "", *("\n".join(textwrap.wrap(part, width)) for part in one.pays), ""]
    for title, text in (("when", one.about.when), ("gold", one.about.gold), ("reads", one.about.reads)):
        said.append(paragraph(title, text, width))
    said += ["", "score", *(paragraph(f"  {name}", text, width) for name, text in one.parts.items())]
    if one.options:
        said += ["", "options, as worker.reward.reward_function_kwargs.NAME"]
        space = max(len(option.name) for option in one.options) + 4
        for option in one.options:
            default = f"[{option.default}] " if option.default else ""
            said.append(paragraph(f"  {option.name}", default + option.meaning, width, space))
    said += ["", "examples"]
    for gold, response, score in one.examples:
        said += [paragraph("  gold", gold, width), paragraph("  response", response, width)]
        said += [paragraph("  score", score_in_words(score), width), ""]
    return "\n".join(said[:-1])


def paragraph(title: str, text: str, width: int, space: int = 12) -> str:
    """The title, and beside it the text's lines, wrapped."""
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, width - space)]
    head = title.ljust(space) if len(title) < space else f"{title}\n{' ' * space}"
    return head + f"\n{' ' * space}".join(lines)


def score_in_words(score: Any) -> str:
    return ", ".join(f"{part} {value:.3g}" for part, value in score.items())


def markdown(rewards: Iterable[Description]) -> str:
    """docs/rewards.md, whole."""
    rewards = list(rewards)
    said = [
        "# Rewards",
        "<!-- Made by `gmpo-vl rewards --markdown`: change the rewards' files, not this page. -->",
        "A reward is chosen by `worker.reward.reward_function`, its options by "
        "`worker.reward.reward_function_kwargs.NAME`. `gmpo-vl rewards NAME` shows the same on the terminal. "
        "[A reward of your own](add/reward.md) is one function in one file.",
        table(("reward", "when to take it"), [(f"[{o.name}](#{o.name})", o.about.when) for o in rewards]),
    ]
    for one in rewards:
        said += [f"## {one.name}", *map(escaped, one.pays)]
        facts = (("when", one.about.when), ("gold", one.about.gold), ("reads", one.about.reads))
        said.append("\n".join(f"- **{title}**: {escaped(text)}" for title, text in facts))
        said.append(
            table(("part of the score", "what it says"), [(f"`{k}`", v) for k, v in one.parts.items()])
        )
        if one.options:
            rows = [
                (f"`{o.name}`", f"`{o.default}`" if o.default else "none", o.meaning) for o in one.options
            ]
            said.append(table(("option", "default", "what it says"), rows))
        rows = [(f"`{gold}`", f"`{text}`", score_in_words(score)) for gold, text, score in one.examples]
        said.append(table(("gold", "response", "score"), rows))
    return "\n\n".join(said) + "\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Outside of code, `<` would begin a tag and a backslash would vanish."""
    pieces = text.split("`")
    pieces[::2] = [p.replace("\\", "\\\\").replace("<", "&lt;").replace("_", "\\_") for p in pieces[::2]]
    return "`".join(pieces).replace("|", "\\|")
