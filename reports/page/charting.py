"""The charting library of the page: Vega-Lite, from the package vl-convert-python, which holds its
JavaScript.

Chosen over Bokeh, the other library whose Python package brings its script. By size: 0.9 MB in the
page, against 1.4 MB for Bokeh with its API. By looks and use: charts are SVG, sharp on paper and at
any zoom, with names for screen readers and one specification that a page needs no more code for;
Bokeh draws on a canvas. By safety: its interpreter of expressions needs no ``eval``, so that the
page keeps its policy. By upkeep: both are well kept. By speed Bokeh leads with many thousand
points, which no figure of this page has. What it costs: 84 MB on disk, against 32 MB, and some
seconds to put the script together, which is therefore done once per version and kept in the user's
cache.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pudle.files import write_atomically

#: The look of every chart: lines and letters have the color of the page's text.
CONFIG = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **dict.fromkeys(
            ("labelColor", "titleColor", "domainColor", "tickColor", "gridColor"), "currentColor"
        ),
        "gridOpacity": 0.1,
        "domainOpacity": 0.45,
        "tickOpacity": 0.45,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelOverlap": "greedy",
        "tickCount": 6,
    },
    "text": {"color": "currentColor", "fontSize": 10},
    "rule": {"color": "currentColor", "opacity": 0.6},
}
LINEAR: dict[str, Any] = {"type": "quantitative", "axis": {}, "scale": {"zero": False}}
#: Between whole decades a logarithmic axis has hints of lines only.
LOG: dict[str, Any] = {
    "type": "quantitative",
    "scale": {"type": "log"},
    "axis": {
        "format": ".0e",
        "labelExpr": "datum.value == 1 ? '1' : replace(datum.label, 'e+', 'e')",
        "gridOpacity": {
            "condition": {
                "test": "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6",
                "value": 1,
            },
            "value": 0.15,
        },
    },
}
#: With Shift the wheel zooms, so that it still scrolls the page without; dragging moves, a double
#: click shows all again.
ZOOM = {
    "name": "zoom",
    "bind": "scales",
    "select": {
        "type": "interval",
        "zoom": "wheel![event.shiftKey]",
        "translate": "[mousedown, window:mouseup] > window:mousemove!",
    },
}
ROWS = {"name": "rows"}
#: Title and unit of what the horizontal axis of curves may show.
AXES = {
    "depth": ("depth (layers)", 1.0),
    "seconds": ("time of one gradient (ms)", 1e-3),
    "memory": ("peak memory above the problem's (MiB)", 2.0**20),
}
#: What neither a pointer nor a screen reader stops at.
SILENT = {"tooltip": False, "aria": False}
#: Text beside a point.
BESIDE = {"type": "text", "align": "left", **SILENT}
#: Slopes of theory, or a diagonal; their names; bounds and goals, with theirs.
THEORY = {
    "data": {"name": "theory"},
    "encoding": {"detail": {"field": "law"}},
    "mark": {
        "type": "line",
        "strokeDash": [4, 3],
        "strokeWidth": 1.2,
        "opacity": 0.55,
        "color": "currentColor",
        **SILENT,
    },
}
LAWS = {
    "data": {"name": "theory"},
    "transform": [{"filter": "datum.label && isValid(datum.law)"}],
    "mark": {**BESIDE, "dx": 5, "dy": -4, "fontSize": 11},
    "encoding": {"text": {"field": "law"}},
}
LEVELS = {
    "data": {"name": "levels"},
    "mark": {"type": "rule", "strokeDash": [2, 3], **SILENT},
    "encoding": {"x": None},
}
#: On the left, where errors are seldom as low yet, or on the `right`.
LEVEL_NAMES = {
    "data": {"name": "levels"},
    "transform": [{"filter": "isValid(datum.label)"}],
    "mark": {
        **BESIDE,
        "align": {"expr": "datum.right ? 'right' : 'left'"},
        "baseline": "bottom",
        "dx": {"expr": "datum.right ? -4 : 4"},
        "dy": -2,
    },
    "encoding": {"x": {"value": {"expr": "datum.right ? width : 0"}}, "text": {"field": "label"}},
}


def script() -> str:
    """Return the script that defines ``vegaEmbed``, as text that may stand inside a page."""
    import vl_convert

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = home / "pudle" / f"vega-{vl_convert.__version__}.js"
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    # Nothing but `</` could end a script element; in JavaScript's own strings it may be written so.
    made = vl_convert.javascript_bundle().replace("</script", "<\\/script")
    # A page needs no cache, which may be read-only.
    with contextlib.suppress(OSError):
        write_atomically(kept, made)
    return made


def specs(looks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the page's specifications for Vega-Lite: the configuration, and per kind its layers
    and its axes' scales.

    The page adds titles, the choice of the scales, what a pointer shows, and rows: those of the
    curves as the data set ``rows``, slopes of theory or a diagonal as ``theory``, bounds and goals
    as ``levels``. `looks` are those of all estimators.
    """
    names = [*looks, ""]

    def by_name(key: str, unknown: Any) -> dict[str, Any]:
        scale = {"domain": names, "range": [*(look[key] for look in looks.values()), unknown]}
        return {"field": "name", "type": "nominal", "legend": None, "scale": scale}

    def opacity(value: float, dim: float) -> dict[str, Any]:
        return {"condition": {"test": "datum.dim", "value": dim}, "value": value}

    def bars(axis: str) -> dict[str, Any]:
        ends = {axis: {"field": f"{axis}Low"}, f"{axis}2": {"field": f"{axis}High"}}
        return {
            "data": ROWS,
            "mark": {"type": "rule", **SILENT},
            "encoding": {"color": color, **ends},
        }

    def markers(size: int) -> dict[str, Any]:
        mark = {"type": "point", "filled": True, "size": size, "tooltip": False}
        return {"data": ROWS, "mark": mark, "encoding": drawn | {"shape": shape}}

    def target(shown: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        # What a pointer hits is larger than what is seen.
        mark = {"type": "point", "filled": True, "size": 260}
        return {
            "data": ROWS,
            "params": [ZOOM],
            "mark": mark,
            "encoding": {"opacity": {"value": 0}, "tooltip": shown},
        }

    color, shape, dashes = (
        by_name("color", "#6f6f6f"),
        by_name("shape", "circle"),
        by_name("dashes", []),
    )
    drawn = {"color": color, "opacity": opacity(1, 0.1), "detail": {"field": "line"}}
    band = {"y": {"field": "low"}, "y2": {"field": "high"}, "opacity": opacity(0.14, 0.02)}
    fill = {"condition": {"test": "datum.hollow", "value": "transparent"}, **color}
    lines = [
        LEVELS,
        LEVEL_NAMES,
        THEORY,
        LAWS,
        {
            "data": ROWS,
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "area", **SILENT},
            "encoding": drawn | band,
        },
        {
            "data": ROWS,
            "mark": {"type": "line", "strokeWidth": 1.7, "tooltip": False},
            "encoding": drawn | {"strokeDash": dashes, "order": {"field": "order"}},
        },
    ]
    scatter = [
        THEORY,
        bars("x"),
        bars("y"),
        {
            "data": ROWS,
            "params": [ZOOM],
            "mark": {"type": "point", "size": 80},
            "encoding": {"color": color, "shape": shape, "fill": fill, "opacity": opacity(1, 0.1)},
        },
    ]
    # A few points that differ little fill the chart; whole decades would put them into a corner.
    close = {
        name: {
            **scaled,
            "axis": {**scaled["axis"], "format": ".3~g"},
            "scale": {**scaled["scale"], "nice": False, "padding": 24},
        }
        for name, scaled in (("linear", LINEAR), ("log", LOG))
    }
    curves = tips(
        estimator="estimator",
        depth="depth",
        value="value",
        range="over seeds",
        seed="seed",
        time="time",
        memory="memory",
        status="status",
    )
    runs = tips(
        estimator="estimator",
        run="run",
        commit="commit",
        date="date",
        machine="machine",
        value="value",
    )
    steps = tips(method="method", step="step", value="value")
    cells = tips(
        estimator="estimator",
        case="case",
        shown="times the fastest",
        depth="layers",
        time="time",
        memory="memory",
    )
    return {
        "config": CONFIG,
        "matrix": {"spec": matrix(None, None, None, cells)},
        "scatter": {"spec": {"encoding": {}, "layer": scatter}, **close},
        **{
            kind: {
                "spec": {"encoding": {}, "layer": [*lines, markers(size), target(shown)]},
                "linear": LINEAR,
                "log": LOG,
            }
            for kind, shown, size in (
                ("lines", curves, 34),
                ("trend", runs, 34),
                ("training", steps, 7),
            )
        },
    }


def tips(**titles: str) -> list[dict[str, str]]:
    """Return the columns that a pointer shows, with their titles."""
    return [{"field": field, "title": title} for field, title in titles.items()]


def matrix(
    x: str | None,
    y: str | None,
    value: str | None,
    tooltip: Sequence[Mapping[str, str]],
    down: bool = False,
) -> dict[str, Any]:
    """Return the specification of a matrix of colored cells with titles; without them small values
    are the bright ones.

    `down` turns the vertical axis, so that it rises.
    """
    bare = {"grid": False, "domain": False, "ticks": False, "labelLimit": 200}
    slanted = {"labelAngle": 0} if x else {"labelAngle": -25, "labelOverlap": False}
    legend = value and {
        "title": value,
        "orient": "top",
        "direction": "horizontal",
        "gradientLength": 160,
        "gradientThickness": 9,
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "titleFontWeight": "normal",
        "format": ".0e",
        "tickCount": 4,
    }
    scale = {"scheme": "cividis", "type": "log"} | (
        {} if value else {"clamp": True, "reverse": True}
    )
    known = "isValid(datum.value)"
    return {
        "data": ROWS,
        "encoding": {
            "x": {
                "field": "x",
                "type": "nominal",
                "axis": {**bare, "title": x, **slanted},
                "scale": {"paddingInner": 0.04},
            },
            "y": {
                "field": "y",
                "type": "nominal",
                "axis": {**bare, "title": y},
                "scale": {"paddingInner": 0.06},
                "sort": "descending" if down else "ascending",
            },
            "tooltip": tooltip,
        },
        "layer": [
            {
                "mark": {"type": "rect", "cornerRadius": 2},
                "encoding": {
                    "color": {
                        "field": "value",
                        "type": "quantitative",
                        "scale": scale,
                        "legend": legend,
                        "condition": {"test": f"!{known}", "value": "#8884"},
                    }
                },
            },
            {
                "transform": [{"filter": "isValid(datum.text)"}],
                "mark": "text",
                "encoding": {
                    "text": {"field": "text"},
                    "opacity": {"condition": {"test": known, "value": 1}, "value": 0.75},
                    "color": {
                        "condition": [
                            {"test": "datum.light", "value": "#fff"},
                            {"test": known, "value": "#000"},
                        ],
                        "value": "currentColor",
                    },
                },
            },
        ],
    }
