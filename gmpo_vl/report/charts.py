"""Line charts as inline SVG, without a library in the page.

The page's style has the colours; values stand in the legend and under the pointer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup

from gmpo_vl.figures import percent

Point = tuple[float, float]

WIDTH, HEIGHT = 360, 190  # of the drawing's own coordinates; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 10, 22
MOST_POINTS = 400  # per line; more would only make the page heavy
_NOTHING = 1e-290  # drawn as 0: the steps of an axis up to it would be no numbers
SMOOTH_FROM = 80  # points from which a running mean is drawn over the raw line


@dataclass(frozen=True)
class Series:
    """A line. points: (x, y) in order of x. dots: mark each point, for values that are measured now and then.

    band: (x, low, high), shaded behind the line. colour: of the page's six; by default the line's number.
    """

    name: str
    points: Sequence[Point]
    dots: bool = False
    band: Sequence[tuple[float, float, float]] = ()
    colour: int | None = None


@dataclass(frozen=True)
class Chart:
    """limits: dashed horizontal lines (y, what it is). stacked: areas on top of each other, first lowest.

    smooth: a long line gets its running mean over it. That says nothing of extremes.
    """

    title: str
    note: str
    series: Sequence[Series]
    unit: Literal["", "%", "s"] = ""
    log: bool = False
    from_zero: bool = True
    stacked: bool = False
    smooth: bool = True
    limits: Sequence[tuple[float, str]] = field(default=())

    def legend(self) -> list[tuple[str, str]]:
        """(name, last value) per line."""
        return [(s.name, show(s.points[-1][1], self.unit)) for s in self.series]

    def colours(self) -> list[int]:
        """One per line."""
        return [i if s.colour is None else s.colour for i, s in enumerate(self.series)]

    def smoothed(self) -> int:
        """The window of the running mean in points, 0 without one."""
        longest = max(len(s.points) for s in self.series)
        return 0 if self.stacked or not self.smooth or longest < SMOOTH_FROM else max(5, longest // 30)

    def svg(self) -> Markup:
        return _draw(self)


def show(value: float, unit: str) -> str:
    """A value with about three digits that matter: 0.0123, 1.23, 123, 12.3%, 0.045%, 4.56 s."""
    if unit == "%":
        return percent(value) if abs(value) >= 0.01 or not value else f"{100 * value:.2g}%"
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e5):
        text = f"{value:.1e}"
    else:
        text = f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}" if 0 < size < 100 else f"{value:.0f}"
    return text + (" s" if unit == "s" else "")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values within [low, high], about `count` of them: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float, unit: str) -> str:
    """Short enough for the axis: 0.05, 20%, 1e-4, 12k, 2e300."""
    if unit == "%":
        return f"{100 * value:.3g}%"
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 1e7:
        return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
    return f"{value / 1000:.3g}k" if abs(value) >= 10_000 else f"{value:.4g}"


def log_ticks(low: float, high: float) -> list[float]:
    """Values for a logarithmic axis: 1-2-5 within each decade, whole decades where the range is wide."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    stride = max(1, len(decades) // 5)
    factors = (1, 2, 5) if len(decades) <= 4 else (1,)
    values = [float(f"{f}e{d}") for d in decades if d % stride == 0 for f in factors]
    inside = [v for v in values if low <= v <= high]
    return inside if len(inside) >= 2 else ticks(low, high, 8)


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each point's mean with the `window - 1` before it."""
    means, total = [], 0.0
    for i, (x, y) in enumerate(points):
        total += y - (points[i - window][1] if i >= window else 0.0)
        means.append((x, total / min(i + 1, window)))
    return means


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most about `most` points; every bin keeps its lowest and highest, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    bins = most // 2
    kept: list[Point] = []
    for i in range(bins):
        part = points[i * len(points) // bins : (i + 1) * len(points) // bins]
        extremes = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept += sorted(extremes)
    return kept


@dataclass(frozen=True)
class _Frame:
    """Where values lie on the drawing, and which values its axes name."""

    x: Callable[[float], float]
    x_ticks: Sequence[float]
    y: Callable[[float], float]
    y_ticks: Sequence[float]

    def path(self, points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{_n(self.x(x))} {_n(self.y(y))}" for x, y in points)


def _draw(chart: Chart) -> Markup:
    lines = _stack(chart.series) if chart.stacked else [list(s.points) for s in chart.series]
    edges = [edge for s in chart.series for _, *limits in s.band for edge in limits]
    xs, ys = [p[0] for line in lines for p in line], [p[1] for line in lines for p in line]
    frame = _Frame(*_x_axis(xs), *_y_axis(chart, [*ys, *edges]))
    parts = [_grid(chart, frame)]
    parts += [_band(s, frame, colour) for s, colour in zip(chart.series, chart.colours()) if s.band]
    if chart.stacked:
        parts += [_area(line, frame, i) for i, line in reversed(list(enumerate(lines)))]
    else:
        window = chart.smoothed()
        drawn = zip(chart.series, lines, chart.colours())
        parts += [_line(series, line, frame, colour, window) for series, line, colour in drawn]
    hover = [
        {"name": s.name, "points": [[x, show(y, chart.unit)] for x, y in thin(s.points)]}
        for s in chart.series
    ]
    scale = {"left": LEFT, "right": WIDTH - RIGHT, "first": frame.x(0), "scale": frame.x(1) - frame.x(0)}
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" data-series="{}" data-frame="{}">{}'
        '<line class="cursor" y1="{}" y2="{}"/></svg>'
    ).format(
        WIDTH,
        HEIGHT,
        chart.title,
        json.dumps(hover),
        json.dumps(scale),
        Markup("").join(parts),
        TOP,
        HEIGHT - BOTTOM,
    )


def _x_axis(xs: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    low, high = min(xs), max(xs)
    if low == high:
        low, high = low - 1, high + 1
    scale = (WIDTH - LEFT - RIGHT) / (high - low)
    whole = [t for t in ticks(low, high, 6) if t == round(t)]
    return lambda x: LEFT + (x - low) * scale, whole


def _y_axis(chart: Chart, ys: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    ys = [y if abs(y) > _NOTHING else 0.0 for y in (*ys, *(y for y, _ in chart.limits))]
    low, high = min(ys), max(ys)
    room = HEIGHT - TOP - BOTTOM
    if chart.log and low > 0:
        low, high = (low * 0.95, high * 1.05)
        bottom, span = math.log(low), math.log(high) - math.log(low)
        return lambda y: TOP + room * (1 - (math.log(y) - bottom) / span), log_ticks(low, high)
    if chart.from_zero and low >= 0:
        low = 0.0
    if high - low <= 1e-12 * max(abs(high), abs(low)):
        around = max(0.5, abs(low) / 20)
        low, high = (low - around, high + around) if low else (0.0, 1.0)
    high += 0.05 * (high - low)
    if low != 0:
        low -= 0.05 * (high - low)
    return lambda y: TOP + room * (high - y) / (high - low), ticks(low, high)


def _grid(chart: Chart, frame: _Frame) -> Markup:
    row = Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="y" x="{}" y="{}">{}</text>'
    )
    column = Markup('<text class="x" x="{}" y="{}">{}</text>')
    limit = Markup(
        '<line class="limit" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="limit" x="{}" y="{}">{}</text>'
    )
    right, parts = WIDTH - RIGHT, []
    for y in frame.y_ticks:
        at, label = frame.y(y), tick_label(y, chart.unit)
        parts.append(row.format(LEFT, right, _n(at), _n(at), LEFT - 6, _n(at + 3.5), label))
    parts += [column.format(_n(frame.x(x)), HEIGHT - 6, f"{x:.0f}") for x in frame.x_ticks]
    for y, name in chart.limits:
        at = frame.y(y)
        parts.append(limit.format(LEFT, right, _n(at), _n(at), right, _n(at - 4), name))
    return Markup("").join(parts)


def _line(series: Series, line: Sequence[Point], frame: _Frame, colour: int, window: int) -> Markup:
    drawn = [("", line)]
    if not (series.dots or window == 0 or len(line) < SMOOTH_FROM):
        drawn = [(" raw", line), ("", running_mean(line, window))]
    path = Markup('<path class="line s{}{}" d="{}"/>')
    parts = [path.format(colour, kind, frame.path(thin(points))) for kind, points in drawn]
    if series.dots or len(line) == 1:
        dot = Markup('<circle class="dot s{}" cx="{}" cy="{}" r="3.2"/>')
        parts += [dot.format(colour, _n(frame.x(x)), _n(frame.y(y))) for x, y in thin(line)]
    return Markup("").join(parts)


def _band(series: Series, frame: _Frame, colour: int) -> Markup:
    """What lies between the low and the high values: along the high ones and back along the low ones."""
    stride = max(1, math.ceil(len(series.band) / MOST_POINTS))
    edges = list(series.band)[::stride]
    around = [(x, high) for x, _, high in edges] + [(x, low) for x, low, _ in reversed(edges)]
    return Markup('<path class="area band s{}" d="{}Z"/>').format(colour, frame.path(around))


def _area(line: Sequence[Point], frame: _Frame, i: int) -> Markup:
    """From the line down to the bottom; what lies under it is drawn over it."""
    base, (first, *_), (last, *_) = HEIGHT - BOTTOM, line[0], line[-1]
    shape = f"{frame.path(line)}L{_n(frame.x(last))} {base}L{_n(frame.x(first))} {base}Z"
    return Markup('<path class="area s{}" d="{}"/>').format(i, shape)


def _stack(series: Sequence[Series]) -> list[list[Point]]:
    """Running sums over the series at every x that any of them has; a missing value counts 0."""
    xs = sorted({x for s in series for x, _ in s.points})
    if len(xs) > MOST_POINTS:
        xs = xs[:: math.ceil(len(xs) / MOST_POINTS)]
    heights, lines = dict.fromkeys(xs, 0.0), []
    for s in series:
        values = dict(s.points)
        heights = {x: heights[x] + values.get(x, 0.0) for x in xs}
        lines.append(list(heights.items()))
    return lines


def _n(value: float) -> str:
    """A coordinate; a tenth of a pixel is enough."""
    return f"{value:.1f}"
