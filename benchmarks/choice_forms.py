"""Wrong options that `strict` accepts, and right ones that it misses, in every way to write an option:
`python benchmarks/choice_forms.py ANSWERS.jsonl [--out FIGURES.json]`.

ANSWERS has one JSON object a line with `gold` and `choices` (also .xz); its distinct questions are asked.
Each option is written by letter, by text and by both, with a letter and the text of another option, and with
doubt. A text that is a letter, or that another option has, too, is not written alone: a lone letter is the
option's letter, and a text of two options names neither. The figures are counts: no question is written.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from gmpo_vl.data.answers import LETTERS
from gmpo_vl.verify import parse_gold, verify
from gmpo_vl.verify.choices import Choice, choices_of
from gmpo_vl.verify.gold import Gold
from gmpo_vl.verify.values import CHOICE
from gmpo_vl.verify.words import bare

# @ is the letter, ~ its full-width form, ^ its small form, # the text.
LETTER = r"""@;(@);@.;(@).;[@];@);@:;**@**;**(@)**;"@";'@';`@`;$@$;{@};\{@\};\text{@};\text{(@)};\text{@.}
\mathrm{@};\mathrm{(@)};\mathbf{@};\textbf{@};\textbf{(@)};\boldsymbol{@};\underline{@};\fbox{@}
\boxed{@};^;(^);option @;Option @;Option (@);Choice @;choice (@);Letter @;option: @;Option: (@)
\text{Option @};\text{option (@)};The answer is @;The answer is: (@);The correct option is @
The correct option is (@);the correct answer is option @;the correct choice is @.;Answer: @
answer: (@);\text{Answer: @};Final answer: @;Answer - @;@ is correct;@ is the correct answer
Option @ is correct;["@"];{"answer": "@"};{"final_answer": "@"};\{"answer": "@"\}
{'answer': '@'};{"reasoning": "so", "answer": "@"};选@;选择@;选项@;@项;@选项;选项@正确;答案：@
答案是@;答案为@。;故选：@;故选@;~;（@）;（~）;@）;@、;@。"""
TEXT = r"""#;$#$;\text{#};\textbf{#};**#**;#.;#。;"#";'#';`#`;The answer is #;Answer: #
the correct option is #;{"answer": "#"};答案：#"""
BOTH = r"""@) #;@. #;@: #;(@) #;(@): #;(@)#;@.#;[@] #;@, #;@; #;@ = #;@ - #;@ → #;@ | #;@, i.e. #;@ (#)
@ is #;$@$. #;@\quad #;@ \text{ (#)};\textbf{(@)}\ #;\text{(@) } #;\text{@. } #;\mathrm{(@)~} #
\text{@. #};\text{(@) #};\textbf{@. #};**@.** #;**@**: #;**@. #**;Option @: #;option (@) #
option @, #;Choice @: #;\text{Option @: } #;The answer is @. #;The correct option is (@) #
The correct option is @: #;Answer: @) #;@, which is #;@ because it is #;# (@);# [@];#, @
# (option @);#, option @;#, which is option @;#, so the answer is @;# = @
# corresponds to option @;{"answer": "@. #"};{"answer": "@", "text": "#"};@）#;@、#;@．#;选@，#
答案：@. #;故选：@．#"""
# @ is another option's letter, % the right one's.
DOUBT = r"""@ or %;% or @;@/%;either @ or %;(@) or (%);@, %;%, @;@ and %;@\text{ or }%;@或%;@、%;not %
not option %;(not %);不是%;不选%;%错误;all except %;all but %;% is incorrect;not % but @
% or not;%, or maybe @;neither @ nor %;{"answer": "@ or %"};["@", "%"]"""


class Asked(NamedTuple):
    """form: as above, with `crossed` before it where letter and text are of two options."""

    form: str
    written: str
    right: bool


def forms(said: str) -> list[str]:
    return re.split(r";(?! #)|\n", said)


def written(form: str, letter: str, text: str = "", right: str = "") -> str:
    """The form with its marks filled in, which may stand in the texts, too."""
    marks = {"@": letter, "~": chr(ord(letter) + 0xFEE0), "^": letter.lower(), "#": text, "%": right}
    marks = {mark: value for mark, value in marks.items() if value and not (mark == "~" and "\\" in form)}
    return "".join(marks.get(c, c) for c in form)


def asked_of(options: tuple[str, ...], right: set[int]) -> Iterator[Asked]:
    """Every form of every option. right: places of the options that are right."""
    first = LETTERS[min(right)]
    for i, (letter, text) in enumerate(zip(LETTERS, options)):
        for form in forms(LETTER):
            yield Asked(form, written(form, letter), i in right)
        if text.count("{") != text.count("}"):  # cut, so that no box holds it
            continue
        is_letter = CHOICE.fullmatch(bare(text).upper()) is not None
        for form in [] if is_letter or options.count(text) > 1 else forms(TEXT):
            yield Asked(form, written(form, letter, text), i in right)
        for form in forms(BOTH):
            yield Asked(form, written(form, letter, text), i in right)
            for j, other in enumerate(options):
                whole = other.count("{") == other.count("}") and other != text
                if whole and (i in right) != (j in right):
                    yield Asked(f"crossed {form}", written(form, letter, other), False)
        if i not in right:
            doubts = [Asked(form, written(form, letter, right=first), False) for form in forms(DOUBT)]
            yield from (asked for asked in doubts if asked.written not in options)


def judged(gold: Gold) -> tuple[Counter[str], list[Asked], list[Asked]]:
    """(counts, wrong ones accepted, right ones missed) of a question."""
    right = {LETTERS.index(c.letter) for c in choices_of(gold) if isinstance(c, Choice) and c.letter}
    counts: Counter[str] = Counter()
    if not right:
        return Counter(without_right_option=1), [], []
    accepted, missed = [], []
    for asked in asked_of(gold.choices, right):
        correct = verify(gold, rf"\boxed{{{asked.written}}}").correct
        counts["right" if asked.right else "wrong"] += 1
        if correct != asked.right:
            (accepted if correct else missed).append(asked)
    return counts, accepted, missed


def questions(path: Path, every: int) -> list[Gold]:
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row.get("choices")]
    texts = {json.dumps({"gold": row["gold"], "choices": row["choices"]}): None for row in rows}
    return [parse_gold(text) for text in list(texts)[::every]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--out", type=Path, help="figures, as JSON")
    parser.add_argument("--every", type=int, default=1, help="each N-th question only")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--examples", type=int, default=3, help="printed of each form that fails")
    options = parser.parse_args()
    golds = questions(options.answers, options.every)
    counts: Counter[str] = Counter(questions=len(golds), options=sum(len(gold.choices) for gold in golds))
    failed: dict[str, dict[str, list[tuple[Gold, str]]]] = {
        "accepted": defaultdict(list),
        "missed": defaultdict(list),
    }
    with ProcessPoolExecutor(options.processes) as pool:
        for gold, (found, *lists) in zip(golds, pool.map(judged, golds, chunksize=8)):
            counts.update(found)
            for kind, asked in zip(failed, lists):
                for one in asked:
                    failed[kind][one.form].append((gold, one.written))
    figures = dict(counts)
    for kind, by_form in failed.items():
        figures[kind] = sum(map(len, by_form.values()))
        figures[f"{kind}_in"] = len({gold for cases in by_form.values() for gold, _ in cases})
        for form, cases in sorted(by_form.items(), key=lambda item: -len(item[1])):
            print(f"{kind} {len(cases)}: {form}")
            for gold, said in cases[: options.examples]:
                print(f"    {gold.alternatives} of {gold.choices}: {said}"[:400])
    print(json.dumps(figures))
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
