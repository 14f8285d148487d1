"""The look of each estimator: one color, marker and line style, the same in every figure and
table.
"""

import colorsys
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from pudle import names
from pudle.measuring.grouping import grouped
from pudle.reports.load import Results, parsed

#: Colors and dashes by what an estimator computes. The first color has the hue, those of Okabe and
#: Ito, which color-blind readers can distinguish; some are darkened to a contrast of at least 3:1
#: with white. The others are near it, for several specs of one class or file.
FAMILIES = {
    "direct": (("#d55e00", "#560c00", "#ff2c09", "#563f00"), (8, 3)),
    "unrolled": (("#0072b2", "#00305c", "#5468ff", "#00727a"), ()),
    "implicit": (("#008a63", "#00240f", "#00a344", "#005557"), (9, 3, 2, 3)),
    "truncated": (("#b8578f", "#652b3b", "#c77b90", "#652b5e"), (4, 3)),
    "stochastic": (("#8f6d00", "#3d1c00", "#8f4200", "#3a3d00"), (2, 2)),
    "approximate": (("#6a51a3", "#27274e", "#a780c0", "#57366c"), (12, 3, 4, 3)),
    "heuristic": (("#1a1a1a", "#7b7b7b", "#4d4d4d"), (9, 3, 2, 3, 2, 3)),
}
UNKNOWN = (("#6f6f6f", "#3a3a3a", "#909090"), (2, 4))
#: Estimators that compute the same differ in their marker, an outline around the origin in a square
#: of side two with y downwards, and in the shade that belongs to the marker. matplotlib's code of
#: the same marker is the key.
MARKERS: dict[str | tuple[int, int, int], str] = {
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
    marker: str | tuple[int, int, int]
    dashes: tuple[float, ...]

    @property
    def data(self) -> dict[str, object]:
        """The look as a page has it: the marker is the data of an SVG path."""
        return {"color": self.color, "shape": MARKERS[self.marker], "dashes": self.dashes}


#: Looks by the names of what they are of.
Looks = Mapping[str, Look]


def looks(
    claims: Mapping[str, str | None], builtins: Mapping[str, str | None] | None = None
) -> dict[str, Look]:
    """Return the look of each estimator, from what each estimator (a spec) computes.

    Hue and dashes show what it computes, marker and shade distinguish estimators that compute the
    same, and several specs of one class or file have colors of their own, in the order of their
    options. Marker and dashes together distinguish any two without color. A hash of the spec
    chooses the marker; if another estimator of the same hue has it already, the next free one is
    taken.
    `builtins`, by default the suite's own estimators, choose first, whether or not they are in the
    report, so that a plug-in never changes their looks.
    """
    if builtins is None:
        builtins = {
            name: kind.computes
            for name, kind in names.list_estimators().items()
            if not names.is_plugin(kind)
        }
    variants: dict[str, int] = {}
    specs_by_name = grouped(sorted(claims, key=_natural_order), lambda spec: parsed(spec)[0])
    for specs in specs_by_name.values():
        variants |= {spec: number for number, spec in enumerate(specs)}
    used_places = set()
    look_of_spec = {}
    for spec in sorted(
        claims.keys() | builtins,
        key=lambda spec: (spec not in builtins, parsed(spec)[0] not in builtins, spec),
    ):
        claim = builtins.get(spec, claims.get(spec))
        first = int(hashlib.sha256(spec.encode()).hexdigest(), 16)
        places = [(first + step) % len(CODES) for step in range(len(CODES))]
        place = next((place for place in places if (claim, place) not in used_places), places[0])
        used_places.add((claim, place))
        colors, dashes = FAMILIES.get(claims.get(spec) or "", UNKNOWN)
        variant = variants.get(spec, 0) % len(colors)
        color = colors[variant] if variant else _shade(colors[0], SHADES[place % len(SHADES)])
        look_of_spec[spec] = Look(color, CODES[place], dashes)
    return {spec: look_of_spec[spec] for spec in claims}


def _natural_order(spec: str) -> list[tuple[bool, float, str]]:
    """Return a key that sorts specs by their words and numbers: a window of 5 before one of 10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", spec)
    numbers = (float(part) if place % 2 else 0.0 for place, part in enumerate(parts))
    return [
        (place % 2 == 1, number, part)
        for place, (number, part) in enumerate(zip(numbers, parts, strict=True))
    ]


@lru_cache(maxsize=16)
def looks_of(results: Results) -> dict[str, Look]:
    """Return the look of every estimator in some results; no file that a spec names is opened.
    Computed once.
    """
    trained = (record.estimator for record in results.experiments if record.estimator)
    # Where no record says what it computes, a registered class of that name may. Nothing is made of
    # a spec: it could name a stranger's file.
    registered = names.list_estimators()
    claims = {
        spec: getattr(registered.get(parsed(spec)[0]), "computes", None)
        for spec in [*results.estimators, *trained]
    }
    for record in results.records:
        claims[record.estimator] = record.computes or claims[record.estimator]
    return looks(claims)


def _shade(color: str, by: float) -> str:
    """Return a color, ``#rrggbb``, whose lightness is changed by an amount."""
    rgb = [part / 255 for part in bytes.fromhex(color[1:])]
    hue, lightness, saturation = colorsys.rgb_to_hls(*rgb)
    shaded = colorsys.hls_to_rgb(hue, lightness + by, saturation)
    return "#" + bytes(round(255 * part) for part in shaded).hex()
