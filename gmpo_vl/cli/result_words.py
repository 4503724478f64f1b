"""What commands print of results and comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmpo_vl.figures import decimal

if TYPE_CHECKING:
    from gmpo_vl.evaluation.comparison import Compared
    from gmpo_vl.evaluation.statistics import Estimate
    from gmpo_vl.evaluation.suites import ComparedSuites

PRINTED_KINDS = 12  # of a column that is printed; the page has all
_ONE_SEED = (
    "One training seed on a side: this compares two checkpoints, not two methods. Another seed of the same "
    "method can differ as much; train several and give them all to --a and --b."
)
FEW = 10  # a bootstrap's interval over fewer questions is too narrow to be believed


def print_results(results: dict[str, Any], folder: Path) -> None:
    """The figures of one evaluation, and what is to be known about them."""
    from gmpo_vl.evaluation.aggregates import in_lines

    low, high = results["ci95"]
    games = "episode" in results
    kind = "games" if games else "questions"
    print(f"{results['name']}: {results['questions']} {kind} x {results['n']}")
    share = "Pass@1"
    if games:
        share = "score of at least 0.5" if results.get("by_score") else "won   "
    print(f"  {share} {100 * results['pass@1']:.1f}  (95% interval {100 * low:.1f} to {100 * high:.1f})")
    if "official" in results:
        print(_official_in_words(results))
    if "rules_and_judge" in results:
        print(_judge_in_words(results))
    for kind in ("pass@k", "maj@k", "all@k"):
        if kind in results:
            parts = [f"@{k} {100 * e['value']:.1f}" for k, e in results[kind].items()]
            print(f"  {kind:6}  {'  '.join(parts)}")
    for name, share in results.get("categories", {}).items():
        print(f"  {name:6}  {100 * share['value']:.1f}  {_interval_of(share)}")
    others = results.get("official_aggregates")
    for line in in_lines(results.get("aggregates", {}), others, results["backend"]["name"] if others else ""):
        print(f"  {line}")
    if games:
        print("  " + _episodes_in_words(results["episode"]))
    if "reward" in results:
        print("  reward  " + "  ".join(f"{part} {decimal(mean)}" for part, mean in results["reward"].items()))
    for name, e in results.get("graders", {}).items():
        if name != results["settings"]["grader"]:
            disputed = f"(disputed answers: {results['disputed']:.1%})"
            print(f"  graded {name} instead: {100 * e['value']:.1f}  {disputed}")
    no_answer = f"no answer {results['no_answer']:.1%}, " if "no_answer" in results else ""
    timeouts = "" if games else f"verifier time-outs {results['timeouts']}, "
    length = "no lengths stated"
    if "mean_length" in results:
        length = f"mean length {results['mean_length']:.0f} tokens" + " a turn" * games
    print(f"  cut off {results['truncated']:.1%}, {no_answer}{timeouts}{length}")
    for note in results["notes"]:
        print(f"  note: {note}")
    print(f"  {folder / 'result.html'}")


def _official_in_words(results: dict[str, Any]) -> str:
    """The totals by a harness's own verdicts and by ours, and where they part."""
    o, facts = results["official"], results["settings"]["imported"]
    low, high = (f"{100 * end:+.1f}" for end in o["difference"]["ci95"])
    stated = facts.get("stated")
    if isinstance(stated, int | float) and 0 <= stated <= 1:  # a share; some metrics are in percent
        stated = round(100 * stated, 10)
    beside = f", its own file says {stated:.1f}" if isinstance(stated, int | float) else ""
    return (
        f"  by {facts['harness']}'s own verdicts ({facts['official']}) {100 * o['value']:.1f}{beside}; here "
        f"{100 * o['ours']:.1f} on these {o['answers']:,} answers\n"
        f"  here - {facts['harness']}: {100 * o['difference']['value']:+.1f} points, 95% interval {low} to "
        f"{high}, paired by question; right here alone {o['only_ours_right']:,}, there alone "
        f"{o['only_official_right']:,}"
    )


def _judge_in_words(results: dict[str, Any]) -> str:
    """The totals by the judge and by the rules, and where they part, by kind of question, too."""
    found, facts = results["rules_and_judge"], results["judge"]
    low, high = (f"{100 * end:+.1f}" for end in found["difference"]["ci95"])
    agreement = "" if found["agreement"] is None else f"; agreement {found['agreement']:.1%}"
    agreement += "" if found["kappa"] is None else f", kappa {found['kappa']:.2f}"
    some = "counted" if found["agreement"] is None else "with both verdicts"
    unscored = f", {found['unscored']:,} of them without a verdict" if found["unscored"] else ""
    lines = [
        f"  by {facts['model']} {100 * found['judge']['value']:.1f}, by the rules ({facts['rules']}) "
        f"{100 * found['rules']['value']:.1f} of the {found['answers']:,} answers {some}; asked "
        f"about {found['asked']:,}{unscored}",
        f"  judge - rules: {100 * found['difference']['value']:+.1f} points, 95% interval {low} to {high}, "
        "paired by question",
        f"  of {found['answers']:,} answers right by both {found['both_right']:,}, by the rules alone "
        f"{found['only_rules_right']:,}, by the judge alone {found['only_judge_right']:,}, by neither "
        f"{found['neither_right']:,}{agreement}",
    ]
    for column, kinds in found["kinds"].items():
        if len(kinds) > PRINTED_KINDS:
            continue
        parts = [
            f"{name} {t['only_rules_right']:,} / {t['only_judge_right']:,} of {t['answers']:,}"
            for name, t in kinds.items()
        ]
        lines.append(f"  rules alone / judge alone by {column}: {', '.join(parts)}")
    return "\n".join(lines)


def _interval_of(share: dict[str, Any]) -> str:
    if share["ci95"] is None:
        return f"({share['games']} games, too few for an interval)"
    low, high = share["ci95"]
    return f"({100 * low:.1f} to {100 * high:.1f}, {share['games']} games)"


def _episodes_in_words(figures: dict[str, float]) -> str:
    """Of results.json's `episode`."""
    said = [f"{figures['turns']:.1f} turns an episode"]
    said += [f"{figures['valid']:.1%} of the turns valid"] if "valid" in figures else []
    said += [f"{figures['cut']:.1%} cut at the last turn"]
    words = {"broken": "broken", "late": "too late", "too_long": "with a prompt too long"}
    return ", ".join(said + [f"{figures[key]:.1%} {what}" for key, what in words.items() if figures[key]])


def comparison_in_words(compared: Compared, shown: int = 5) -> str:
    """What came out. shown: questions that are named on each side."""
    d, gains_Q = compared.difference, compared.gains_Q
    e, seeds = d.estimate, (len(compared.a_SQ), len(compared.b_SQ))
    a, b = compared.a_SQ.mean(), compared.b_SQ.mean()
    won, lost = int((gains_Q > 0).sum()), int((gains_Q < 0).sum())
    what = compared.what
    how = f"{what} and seed" if d.paired_by_seed and seeds[0] > 1 else what
    unpaired = f"{100 * d.unpaired.low:+.1f} to {100 * d.unpaired.high:+.1f}"
    lines = [
        f"a {100 * a:.1f}   b {100 * b:.1f}   {len(gains_Q)} {what}s, {seeds[0]} and {seeds[1]} runs",
        f"b - a: {100 * e.value:+.1f} points, 95% interval {100 * e.low:+.1f} to {100 * e.high:+.1f}, "
        f"p = {d.p_value:.2g}, paired by {how}",
        f"       unpaired it would be {unpaired} ({what}s only)",
        f"{what}s: b better {won}, a better {lost}, equal {len(gains_Q) - won - lost}",
    ]
    order = gains_Q.argsort(kind="stable")
    for title, places in (
        ("most won", order[::-1][: min(won, shown)]),
        ("most lost", order[: min(lost, shown)]),
    ):
        named = [f"{compared.questions[i]} {100 * gains_Q[i]:+.0f}" for i in places]
        lines += [f"  {title}: {', '.join(named)}"] if named else []
    if len(gains_Q) < FEW:
        lines.append(
            f"too few {what}s: {len(gains_Q)} say next to nothing about others; ask at least {FEW}, "
            "better hundreds"
        )
    lines += [f"note: {note}" for note in compared.notes]
    return "\n".join([*lines, _seeds_in_words(compared)])


def _seeds_in_words(compared: Compared) -> str:
    d, seeds = compared.difference, min(len(compared.a_SQ), len(compared.b_SQ))
    if d.seed_deviation is None:
        return _ONE_SEED
    needed = (
        "a difference of 0 cannot be found with any number"
        if d.seeds_needed is None
        else f"to find this difference 4 times in 5 takes {d.seeds_needed} seeds a side"
    )
    varies = f"the difference varies by {100 * d.seed_deviation:.1f} points (standard deviation)"
    return f"seeds: {varies}; {needed}" + f" (with {seeds} seeds both figures are rough)" * (seeds < 5)


def suites_in_words(found: ComparedSuites) -> str:
    """A line a benchmark, the mean of their differences, and what is missing."""
    width = max(9, *(len(row.name) for row in found.benchmarks))
    lines = [f"{'benchmark':{width}} {'questions':>9} {'a':>6} {'b':>6} {'b - a':>6}  {'95% interval':14} "]
    lines[0] += f"{'p':>7} {'p (Holm)':>8}"
    for row in found.benchmarks:
        d, a, b = row.compared.difference, row.compared.a_SQ.mean(), row.compared.b_SQ.mean()
        lines.append(
            f"{row.name:{width}} {len(row.compared.questions):9,} {100 * a:6.1f} {100 * b:6.1f} "
            f"{100 * d.estimate.value:+6.1f}  {_to(d.estimate):14} {d.p_value:7.2g} {row.p_holm:8.2g}"
        )
    count = len(found.benchmarks)
    if count > 1:
        lines.append(
            f"mean of {count} benchmarks: b - a {100 * found.mean.value:+.1f} points, 95% interval "
            f"{_to(found.mean)}"
        )
        lines.append(f"p (Holm): corrected for {count} benchmarks, by Holm's method")
    lines += [
        f"too few questions in {row.name}: {len(row.compared.questions)} say next to nothing about others"
        for row in found.benchmarks
        if len(row.compared.questions) < FEW
    ]
    lines += [f"not compared: {name}: {why}" for name, why in found.refused.items()]
    lines += [f"only in {side}: {', '.join(names)}" for side, names in zip("ab", found.only) if names]
    if found.judged:
        lines.append(
            f"left out, since the same answers are compared by rules: {', '.join(found.judged)}; name two "
            "judged results to compare them"
        )
    lines += [f"note: {row.name}: {note}" for row in found.benchmarks for note in row.compared.notes]
    a, b = len(found.benchmarks[0].before), len(found.benchmarks[0].after)
    if min(a, b) == 1:
        return "\n".join([*lines, _ONE_SEED])
    how = "question and seed" if a == b else "question"
    return "\n".join([*lines, f"{a} and {b} training seeds, paired by {how}"])


def _to(e: Estimate) -> str:
    return f"{100 * e.low:+.1f} to {100 * e.high:+.1f}"
