"""The look of each estimator: one color, marker and line style, the same in every figure and table."""

from __future__ import annotations

import colorsys
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from pudle import registry
from pudle.errors import PudleError
from pudle.reports.load import Results, parsed

#: Hue and line style by what an estimator computes. The hues are those of Okabe and Ito, which color-blind readers can
#: distinguish; some are darkened to a contrast of at least 3:1 with white.
FAMILIES: dict[str, tuple[str, Any]] = {
    "direct": ("#d55e00", (0, (5, 1.5))),
    "unrolled": ("#0072b2", (0, ())),
    "implicit": ("#008a63", (0, (6, 1.5, 1, 1.5))),
    "truncated": ("#b8578f", (0, (2.5, 1.5))),
    "stochastic": ("#8f6d00", (0, (1, 1.2))),
    "approximate": ("#6a51a3", (0, (8, 2, 2.5, 2))),
    "heuristic": ("#1a1a1a", (0, (6, 1.5, 1, 1.5, 1, 1.5))),
}
UNKNOWN = ("#6f6f6f", (0, (1, 2)))
#: Estimators that compute the same differ in their marker, and in the shade that belongs to the marker.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d", (4, 0, 22), (3, 0, 30))
SHADES = (0.0, 0.05, -0.07)


@dataclass(frozen=True)
class Look:
    """Color, marker and line style of an estimator in every figure."""

    color: str
    marker: Any
    line: Any


def looks(claims: Mapping[str, str | None], builtins: Mapping[str, str | None] | None = None) -> dict[str, Look]:
    """Return the look of each estimator, from what each estimator (a spec) computes.

    Hue and line style show what it computes, marker and shade distinguish estimators that compute the same. Marker and line
    style together distinguish any two without color. A hash of the spec chooses the marker; if another estimator of the same
    hue has it already, the next free one is taken. `builtins`, by default the suite's own estimators, choose first, whether
    or not they are in the report, so that a plug-in never changes their looks.
    """
    if builtins is None:
        builtins = {}
        # A plug-in that cannot be imported must not keep a report of earlier results from being written.
        with contextlib.suppress(PudleError):
            classes = registry.list_estimators()
            builtins = {name: cls.computes for name, cls in classes.items() if cls.__module__.startswith("pudle.")}
    own = {spec for spec in claims if parsed(spec)[0] in builtins}
    taken: set[tuple[str | None, int]] = set()
    places: dict[str, int] = {}
    for spec in [*sorted(builtins), *sorted(own - set(builtins)), *sorted(set(claims) - own)]:
        family = builtins[spec] if spec in builtins else claims[spec]
        place = int(hashlib.sha256(spec.encode()).hexdigest(), 16) % len(MARKERS)
        free = (candidate % len(MARKERS) for candidate in range(place, place + len(MARKERS)))
        places[spec] = next((candidate for candidate in free if (family, candidate) not in taken), place)
        taken.add((family, places[spec]))
    families = {spec: FAMILIES.get(claim or "", UNKNOWN) for spec, claim in claims.items()}
    return {spec: Look(_shade(hue, SHADES[places[spec] % len(SHADES)]), MARKERS[places[spec]], line)
            for spec, (hue, line) in families.items()}  # fmt: skip


def looks_of(results: Results) -> dict[str, Look]:
    """Return the look of every estimator in some results."""
    trained = (item.estimator for item in results.experiments if item.estimator)
    claims: dict[str, str | None] = dict.fromkeys([*results.estimators, *trained])
    for row in results.records.itertuples():
        claims[row.estimator] = claims[row.estimator] or row.computes
    for spec in [spec for spec, claim in claims.items() if claim is None]:
        # No record says what it computes, but its class may.
        with contextlib.suppress(PudleError):
            claims[spec] = registry.make_estimator(spec).computes
    return looks(claims)


def symbol(look: Look) -> str:
    """Return the content of an SVG of 36 by 14: a piece of the line with the marker on it."""
    _, dashes = look.line
    dashing = f' stroke-dasharray="{" ".join(f"{1.6 * length:g}" for length in dashes)}"' if dashes else ""
    style = MarkerStyle(look.marker)
    # Markers have size one around the origin, and their y axis points upwards.
    path = style.get_path().transformed(style.get_transform() + Affine2D().scale(9, -9).translate(18, 7))
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    outline = "".join(
        letters[code] + ("" if code == Path.CLOSEPOLY else " ".join(f"{value:.2f}" for value in points))
        for points, code in path.iter_segments(simplify=False)
    )
    line = f'<path d="M1 7H35" stroke="{look.color}" stroke-width="1.6"{dashing} fill="none"/>'
    return f'{line}<path d="{outline}" fill="{look.color}"/>'


def _shade(color: str, by: float) -> str:
    hue, lightness, saturation = colorsys.rgb_to_hls(*mpl.colors.to_rgb(color))
    return mpl.colors.to_hex(colorsys.hls_to_rgb(hue, min(max(lightness + by, 0.0), 1.0), saturation))
