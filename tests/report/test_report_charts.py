"""Charts: nothing leaves the frame, no spike is lost, and what is drawn is what was measured."""

import math
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gmpo_vl.report.charts import (
    HEIGHT,
    WIDTH,
    Chart,
    Series,
    log_ticks,
    running_mean,
    show,
    thin,
    tick_label,
    ticks,
)
from gmpo_vl.report.curves import curves
from gmpo_vl.report.gather import ratio_limits, read_settings

values = st.floats(1e-12, 1e9)


@given(low=values, share=st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low, share):
    high = low * (1 + share)
    found = ticks(low, high)
    assert 2 <= len(found) <= 11
    slack = 1e-6 * (high - low)
    assert all(low - slack <= t <= high + slack for t in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[0], rtol=1e-6)


@given(low=st.floats(1e-8, 1e4), factor=st.floats(1.01, 1e8))
def test_log_ticks_are_inside(low, factor):
    found = log_ticks(low, low * factor)
    assert 2 <= len(found) <= 16
    assert all(low * (1 - 1e-9) <= t <= low * factor * (1 + 1e-9) for t in found)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000))
@settings(max_examples=30)
def test_thinning_keeps_the_extremes_and_the_order(ys):
    points = list(enumerate(ys))
    kept = thin(points)
    assert len(kept) <= 400
    assert {min(ys), max(ys)} <= {y for _, y in kept}
    assert kept == sorted(kept)
    assert set(kept) <= set(points)


def test_running_mean_is_the_mean_of_the_last_ones():
    ys = np.random.default_rng(0).normal(size=50)
    means = running_mean(list(enumerate(ys)), 7)
    for i, mean in means:
        assert math.isclose(mean, ys[max(0, i - 6) : i + 1].mean(), abs_tol=1e-12)


@given(
    ys=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=120),
    log=st.booleans(),
    stacked=st.booleans(),
    unit=st.sampled_from(["", "%", "s"]),
)
@example(ys=[1.0, 5e-324, 1e300], log=True, stacked=False, unit="")
@settings(max_examples=60)
def test_nothing_is_drawn_outside_the_frame(ys, log, stacked, unit):
    ys = [abs(y) for y in ys] if stacked else ys
    chart = Chart(
        "t",
        "n",
        [Series("a", list(enumerate(ys))), Series("b", [(3, 1.0)], dots=True)],
        unit,
        log,
        stacked=stacked,
    )
    for path in re.findall(r' d="([^"]*)"', chart.svg()):
        numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", path)]
        assert all(-0.1 <= x <= WIDTH + 0.1 for x in numbers[0::2])
        assert all(-0.1 <= y <= HEIGHT + 0.1 for y in numbers[1::2])


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize(
    "values", [[5e-324], [1e-310, 1e-310], [1e17, 1e17], [1e300], [-1e17], [1.0, 1.0 + 2e-16], [5e-324, 1.0]]
)
def test_values_at_the_ends_of_what_floats_hold_are_drawn(values, log):
    svg = Chart("t", "n", [Series("a", list(enumerate(values)))], log=log, smooth=False).svg()
    (drawn,) = re.findall(r'<path class="line s0" d="M([^"]*)"', svg)
    heights = [float(point.split()[1]) for point in drawn.split("L")]
    assert all(-0.1 <= y <= HEIGHT + 0.1 for y in heights)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1, max_size=900), st.booleans())
@settings(max_examples=30)
def test_a_band_lies_in_the_frame_and_around_its_line(values, log):
    band = [(i, y, y + wide) for i, (y, wide) in enumerate(values)]
    line = [(i, (low + high) / 2) for i, low, high in band]
    svg = Chart("t", "n", [Series("a", line, band=band, colour=3)], log=log, smooth=False).svg()
    (shape,) = re.findall(r'<path class="area band s3" d="M([^"]*)Z"', svg)
    (drawn,) = re.findall(r'<path class="line s3" d="M([^"]*)"', svg)
    points = [tuple(map(float, p.split())) for p in shape.split("L")]
    assert all(0 <= x <= WIDTH and -0.1 <= y <= HEIGHT + 0.1 for x, y in points)
    top, bottom = points[: len(points) // 2], points[len(points) // 2 :][::-1]
    at = dict(tuple(map(float, p.split())) for p in drawn.split("L"))
    for (x, high), (_, low) in zip(top, bottom):
        if x in at and len(values) <= 400:
            assert high - 0.11 <= at[x] <= low + 0.11  # y grows downwards


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.5321, "%", "53.2%"),
        (0.00045, "%", "0.045%"),
        (0, "%", "0.0%"),
        (1.2345, "", "1.23"),
        (0.01234, "", "0.0123"),
        (1234.5, "", "1234"),
        (2e-9, "", "2.0e-09"),
        (0, "", "0"),
        (-1.5, "s", "-1.50 s"),
    ],
)
def test_values_are_shown_with_the_digits_that_matter(value, unit, shown):
    assert show(value, unit) == shown


def test_names_are_escaped():
    svg = str(Chart("<b>", "", [Series('"><script>', [(0, 1.0), (1, 2.0)])]).svg())
    assert "<script>" not in svg
    assert "<b>" not in svg


def test_only_measured_curves_are_drawn_and_gaps_are_left_out():
    rows = [
        {"step": 1, "actor/entropy": 0.5},
        {"step": 2, "actor/entropy": None},
        {"step": 3, "actor/entropy": 0.25},
    ]
    charts = curves(rows)
    assert [chart.title for chart in charts] == ["Entropy"]
    assert charts[0].series[0].points == [(1, 0.5), (3, 0.25)]
    assert charts[0].legend() == [("entropy", "0.250")]


def test_figures_of_papo_corrections_and_batch_deviations_have_curves():
    keys = [f"actor/papo_{name}" for name in ("kl", "entropy_masked", "entropy")]
    keys += [f"rollout/is_{name}" for name in ("weight_mean", "weight_max", "eff_sample_size")]
    keys += ["rollout/rejected_tokens", "rollout/rejected_sequences", "advantage/batch_std"]
    rows = [{"step": step, **{key: step + i for i, key in enumerate(keys)}} for step in (1, 2)]
    drawn = {series.points[0][1] for chart in curves(rows) for series in chart.series}
    assert drawn == {1 + i for i in range(len(keys))}


def test_figures_without_bounds_are_short_words():
    for value in (1e300, -1e300):
        assert len(show(value, "")) < 10
        assert len(show(value, "%")) < 10
        assert len(tick_label(value, "")) < 8
    assert (tick_label(2.5e8, ""), tick_label(12_000, "")) == ("2.5e8", "12k")


def test_every_figure_the_issue_names_has_a_curve(run):
    titles = {chart.title for chart in curves(run.read_metrics())}
    assert titles >= {
        "Accuracy",
        "Reward",
        "Importance ratio",
        "Entropy",
        "Gradient norm",
        "Response length",
        "Lost rollouts",
        "KL divergence",
        "Time per step",
    }


def test_the_clip_is_drawn_where_the_objective_clips(run):
    low, high = ratio_limits(read_settings(run.folder))
    assert math.isclose(low, math.exp(-0.4))
    assert math.isclose(high, math.exp(0.4))
