"""The look of each estimator: one color, marker and line style, the same in every figure and
table.
"""

from __future__ import annotations

import colorsys
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pudle import names
from pudle.errors import PudleError
from pudle.reports.load import Results, parsed

#: Hue and dashes by what an estimator computes. The hues are those of Okabe and Ito, which
#: color-blind readers can distinguish; some are darkened to a contrast of at least 3:1 with white.
FAMILIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "direct": ("#d55e00", (8, 3)),
    "unrolled": ("#0072b2", ()),
    "implicit": ("#008a63", (9, 3, 2, 3)),
    "truncated": ("#b8578f", (4, 3)),
    "stochastic": ("#8f6d00", (2, 2)),
    "approximate": ("#6a51a3", (12, 3, 4, 3)),
    "heuristic": ("#1a1a1a", (9, 3, 2, 3, 2, 3)),
}
UNKNOWN: tuple[str, tuple[float, ...]] = ("#6f6f6f", (2, 4))
#: Estimators that compute the same differ in their marker, an outline around the origin in a square
#: of side two with y downwards, and in the shade that belongs to the marker. matplotlib's code of
#: the same marker is the key.
MARKERS: dict[Any, str] = {
    "o": "M0.9,0A0.9,0.9,0,1,1,-0.9,0A0.9,0.9,0,1,1,0.9,0Z",
    "s": "M-0.8,-0.8H0.8V0.8H-0.8Z",
    "^": "M0,-1L1,0.8H-1Z",
    "D": "M0,-1.1L1.1,0L0,1.1L-1.1,0Z",
    "v": "M0,1L1,-0.8H-1Z",
    "P": "M-0.35,-1H0.35V-0.35H1V0.35H0.35V1H-0.35V0.35H-1V-0.35H-0.35Z",
    "X": "M-0.5,-1L0,-0.5L0.5,-1L1,-0.5L0.5,0L1,0.5L0.5,1L0,0.5L-0.5,1L-1,0.5L-0.5,0L-1,-0.5Z",
    "*": (
        "M0,-1.2L0.28,-0.38L1.14,-0.37L0.45,0.15L0.71,0.97L0,0.48"
        "L-0.71,0.97L-0.45,0.15L-1.14,-0.37L-0.28,-0.38Z"
    ),
    "<": "M-1,0L0.8,-1V1Z",
    ">": "M1,0L-0.8,-1V1Z",
    "p": "M0,-1L0.95,-0.31L0.59,0.81H-0.59L-0.95,-0.31Z",
    "h": "M0,-1L0.87,-0.5V0.5L0,1L-0.87,0.5V-0.5Z",
    "d": "M0,-1.1L0.66,0L0,1.1L-0.66,0Z",
    (4, 0, 22): "M0.93,-0.37L-0.37,-0.93L-0.93,0.37L0.37,0.93Z",
    (3, 0, 30): "M1,0L-0.5,-0.87V0.87Z",
}
CODES = tuple(MARKERS)
SHADES = (0.0, 0.05, -0.07)


@dataclass(frozen=True)
class Look:
    """Color, marker (a key of `MARKERS`) and dashes of an estimator in every figure."""

    color: str
    marker: Any
    dashes: tuple[float, ...]

    @property
    def data(self) -> dict[str, Any]:
        """The look as a page has it: the marker is the data of an SVG path."""
        return {"color": self.color, "shape": MARKERS[self.marker], "dashes": self.dashes}


def looks(
    claims: Mapping[str, str | None], builtins: Mapping[str, str | None] | None = None
) -> dict[str, Look]:
    """Return the look of each estimator, from what each estimator (a spec) computes.

    Hue and dashes show what it computes, marker and shade distinguish estimators that compute the
    same. Marker and dashes together distinguish any two without color. A hash of the spec chooses
    the marker; if another estimator of the same hue has it already, the next free one is taken.
    `builtins`, by default the suite's own estimators, choose first, whether or not they are in the
    report, so that a plug-in never changes their looks.
    """
    if builtins is None:
        builtins = {}
        # A plug-in that cannot be imported must not keep a report of earlier results from being
        # written.
        with contextlib.suppress(PudleError):
            classes = names.list_estimators()
            builtins = {
                name: cls.computes
                for name, cls in classes.items()
                if cls.__module__.startswith("pudle.")
            }
    own = {spec for spec in claims if parsed(spec)[0] in builtins}
    taken: set[tuple[str | None, int]] = set()
    places: dict[str, int] = {}
    for spec in [*sorted(builtins), *sorted(own - set(builtins)), *sorted(set(claims) - own)]:
        family = builtins[spec] if spec in builtins else claims[spec]
        place = int(hashlib.sha256(spec.encode()).hexdigest(), 16) % len(CODES)
        free = (candidate % len(CODES) for candidate in range(place, place + len(CODES)))
        places[spec] = next(
            (candidate for candidate in free if (family, candidate) not in taken), place
        )
        taken.add((family, places[spec]))
    families = {spec: FAMILIES.get(claim or "", UNKNOWN) for spec, claim in claims.items()}
    return {
        spec: Look(_shade(hue, SHADES[places[spec] % len(SHADES)]), CODES[places[spec]], dashes)
        for spec, (hue, dashes) in families.items()
    }


def looks_of(results: Results) -> dict[str, Look]:
    """Return the look of every estimator in some results."""
    trained = (item.estimator for item in results.experiments if item.estimator)
    claims: dict[str, str | None] = dict.fromkeys([*results.estimators, *trained])
    for row in results.records:
        claims[row["estimator"]] = claims[row["estimator"]] or row["computes"]
    for spec in [spec for spec, claim in claims.items() if claim is None]:
        # No record says what it computes, but its class may.
        with contextlib.suppress(PudleError):
            claims[spec] = names.make_estimator(spec).computes
    return looks(claims)


def _shade(color: str, by: float) -> str:
    rgb = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(*rgb)
    shaded = colorsys.hls_to_rgb(hue, min(max(lightness + by, 0.0), 1.0), saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in shaded)
