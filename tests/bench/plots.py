"""Draws a run as one SVG: each judged figure as a bar against its must and goal, on a scale on which the must is one."""

from collections.abc import Sequence
from html import escape
from statistics import median

from tests.bench.figures import FIGURES, Figure, Measured

_ROW, _LEFT, _BAR, _WIDTH = 26, 430, 360, 900
_SCALE_MAX = 2.0  # a figure twice as good as it must be fills the bar
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.bar{fill:#4a7ebb}.bad{fill:#c0504d}.must{stroke:#c0504d;stroke-width:2}"
    ".goal{stroke:#5b8c3a;stroke-width:2}.range{stroke:#222}"
)


def drawing(measured: Measured, title: str) -> str:
    """Return the SVG of all figures that were measured and are judged."""
    judged = [figure for figure in FIGURES if figure.must and measured.get(figure.name)]
    height = (len(judged) + 3) * _ROW
    rows = [_row(figure, measured[figure.name], (at + 2) * _ROW) for at, figure in enumerate(judged)]
    legend = "a longer bar is better; red line: must, green line: goal, black line: min .. max of the repetitions"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">',
            f"<style>{_STYLE}</style>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="10" y="18" font-weight="bold">{escape(title)}</text>',
            f'<text x="10" y="{height - 10}">{legend}</text>',
            *rows,
            "</svg>",
            "",
        ]
    )


def _row(figure: Figure, values: Sequence[float], top: int) -> str:
    middle, kind = median(values), "bad" if figure.reached(values) == "NO" else "bar"
    ends = sorted(_length(figure, value) for value in values)
    must, goal = (_length(figure, bound) if bound else None for bound in (figure.must, figure.goal))
    lines = [(must, "must"), (goal, "goal")]
    marks = [
        f'<line class="{mark}" x1="{_LEFT + at:.0f}" x2="{_LEFT + at:.0f}" y1="{top}" y2="{top + 18}"/>'
        for at, mark in lines
        if at is not None
    ]
    return "\n".join(
        [
            f'<text x="10" y="{top + 14}">{escape(figure.title[:68])}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{top + 3}" height="12" width="{_length(figure, middle):.0f}"/>',
            f'<line class="range" x1="{_LEFT + ends[0]:.0f}" x2="{_LEFT + ends[-1]:.0f}" y1="{top + 9}" y2="{top + 9}"/>',
            *marks,
            f'<text x="{_LEFT + _BAR + 15}" y="{top + 14}">{middle:.3g} {figure.unit}</text>',
        ]
    )


def _length(figure: Figure, value: float) -> float:
    """Return how long a bar is: the must is at the middle of the scale, whichever direction is better."""
    must = figure.must or 1.0
    good = value / must if figure.better == "more" else must / max(value, 1e-9)
    return min(good, _SCALE_MAX) / _SCALE_MAX * _BAR
