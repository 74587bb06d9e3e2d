"""A small logarithmic line plot as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 70, 50, 20, 150
COLOURS = ("#1f6fb2", "#d1661c", "#3a8f4d")


def log_plot(series: Mapping[str, Sequence[tuple[int, float]]], across: str, upward: str) -> str:
    """Return the plot; both axes are logarithmic, the dashed line through the first point grows in proportion."""
    points = [point for line in series.values() for point in line]
    low_x, high_x = _decades([point[0] for point in points])
    low_y, high_y = _decades([point[1] for point in points])

    def place(size: float, taken: float) -> tuple[float, float]:
        x = LEFT + (math.log10(size) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (math.log10(taken) - low_y) / (high_y - low_y) * (HEIGHT - BOTTOM - TOP)
        return x, y

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(low_x, high_x + 1):
        x, y = place(10**power, 10**low_y)
        parts.append(f'<path d="M{x:.1f} {TOP}V{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{10**power:,}</text>')
    for power in range(low_y, high_y + 1):
        x, y = place(10**low_x, 10**power)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for row, (name, line) in enumerate(series.items()):
        places = [place(*point) for point in line]
        colour = COLOURS[row % len(COLOURS)]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{TOP + 16 + 18 * row}" fill="{colour}">{name}</text>')
        (first, taken), last = line[0], line[-1][0]
        most = min(last, first * 10**high_y / taken)
        ends = (place(first, taken), place(most, taken * most / first))
        parts.append(
            f'<path d="M{ends[0][0]:.1f} {ends[0][1]:.1f}L{ends[1][0]:.1f} {ends[1][1]:.1f}" stroke="{colour}" '
            'stroke-dasharray="4 4" opacity="0.5"/>'
        )
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{across}</text>')
    parts.append(f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})">{upward}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)
