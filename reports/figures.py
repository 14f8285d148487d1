"""Figures, as inline SVG with text as text, and the data behind each as CSV."""

from __future__ import annotations

import colorsys
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pudle import registry, specs
from pudle.errors import PudleError
from pudle.reports import text
from pudle.reports.load import Results
from pudle.reports.rates import BASE, WINDOW, law

#: Hue (from the Okabe-Ito palette, safe for colour-blind readers) and line style by what an estimator computes.
FAMILIES: dict[str, tuple[str, Any]] = {
    "direct": ("#d55e00", (0, (5, 1.5))),
    "unrolled": ("#0072b2", (0, ())),
    "implicit": ("#009e73", (0, (6, 1.5, 1, 1.5))),
    "truncated": ("#cc79a7", (0, (2.5, 1.5))),
    "stochastic": ("#b58900", (0, (1, 1.2))),
}
UNKNOWN = ("#7f7f7f", (0, (1, 2)))
#: One marker, and with it one shade of the hue, per estimator that computes the same.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d", (4, 0, 22), (3, 0, 30))
SHADES = (0.0, 0.08, -0.08)

#: Stands for the colour of the text around the figure until the SVG is written.
INK = "#010203"
SIZE = (6.0, 4.3)
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pudle",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class Look:
    """How an estimator is drawn, in every figure."""

    colour: str
    marker: Any
    line: Any


@dataclass(frozen=True)
class Picture:
    """A figure, ready for a page.

    Attributes
    ----------
    name : str
        File name without its ending.
    kind : str
        What it shows; pictures of one kind stand together.
    case : str
    svg : str
        Inline SVG.
    alt : str
        What there is to see, for who cannot see it.
    csv : str
        The data drawn.
    """

    name: str
    kind: str
    case: str
    svg: str
    alt: str
    csv: str


def looks(claims: Mapping[str, str | None], builtins: Mapping[str, str | None] | None = None) -> dict[str, Look]:
    """Return the look of each estimator.

    Hue and line style say what it computes, marker and shade which one of these it is; marker and line together tell any
    two apart without colour.

    Parameters
    ----------
    claims : mapping
        What each estimator (a spec) computes.
    builtins : mapping
        The same for the names whose look must never change; by default those registered by pudle itself.

    Notes
    -----
    A marker's place follows from a hash of the spec, and a place that another estimator of the same hue has taken sends to
    the next. The suite's own estimators choose first, whether or not they are in the report, so that a plug-in never changes
    their looks.
    """
    builtins = _builtins() if builtins is None else builtins
    own = {spec for spec in claims if _name(spec) in builtins}
    taken: dict[tuple[str | None, int], str] = {}
    places: dict[str, int] = {}
    for spec in [*sorted(builtins), *sorted(own - set(builtins)), *sorted(set(claims) - own)]:
        family = builtins[spec] if spec in builtins else claims[spec]
        place = int(hashlib.sha256(spec.encode()).hexdigest(), 16) % len(MARKERS)
        free = (candidate % len(MARKERS) for candidate in range(place, place + len(MARKERS)))
        places[spec] = next((candidate for candidate in free if (family, candidate) not in taken), place)
        taken[family, places[spec]] = spec
    found = {}
    for spec, claim in claims.items():
        hue, line = FAMILIES.get(claim or "", UNKNOWN)
        found[spec] = Look(_shade(hue, SHADES[places[spec] % len(SHADES)]), MARKERS[places[spec]], line)
    return found


def _claims(results: Results) -> dict[str, str | None]:
    """Return what each estimator computes: what its records say, or its class where no record could be made."""
    found: dict[str, str | None] = dict.fromkeys(results.estimators)
    for row in results.records.itertuples():
        found[row.estimator] = found[row.estimator] or row.computes
    for spec in [spec for spec, claim in found.items() if claim is None]:
        try:
            found[spec] = registry.make_estimator(spec).computes
        except PudleError:
            # Not installed here: it is drawn as unknown, which is what it is.
            continue
    return found


def _builtins() -> dict[str, str | None]:
    try:
        classes = registry.list_estimators()
    except PudleError:
        # A plug-in that cannot be imported must not keep a report of earlier results from being written.
        return {}
    return {name: cls.computes for name, cls in classes.items() if cls.__module__.startswith("pudle.")}


def _name(spec: str) -> str:
    try:
        return specs.parse(spec)[0]
    except PudleError:
        return spec


def _shade(colour: str, by: float) -> str:
    hue, lightness, saturation = colorsys.rgb_to_hls(*mpl.colors.to_rgb(colour))
    return mpl.colors.to_hex(colorsys.hls_to_rgb(hue, min(max(lightness + by, 0.0), 1.0), saturation))


def draw(results: Results, rates: pd.DataFrame) -> list[Picture]:
    """Draw everything there are data for: per case, error and 1 - cosine and memory against depth, error against time."""
    style = looks(_claims(results))
    pictures = []
    with mpl.rc_context(STYLE):
        for case in results.cases:
            for picture in (_error(results, rates, case, style), _cosine(results, case, style),
                            _time(results, case, style), _memory(results, case, style)):  # fmt: skip
                if picture is not None:
                    pictures.append(picture)
    return pictures


def _axes() -> tuple[Figure, Any]:
    # A figure of its own, outside pyplot: nothing global is left behind.
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def _curves(axes: Any, data: pd.DataFrame, style: Mapping[str, Look], order: list[str]) -> None:
    """Draw the median over seeds with the band from the least to the greatest, against depth."""
    order = [name for name in order if name in set(data["estimator"])]
    sns.lineplot(
        data=data, x="depth", y="value", hue="estimator", style="estimator", hue_order=order, style_order=order,
        palette={name: style[name].colour for name in order}, markers={name: style[name].marker for name in order},
        dashes={name: style[name].line[1] or "" for name in order}, estimator="median", errorbar=("pi", 100),
        err_kws={"alpha": 0.14, "linewidth": 0}, linewidth=1.6, markersize=6, markeredgewidth=0, ax=axes,
    )  # fmt: skip


def _error(results: Results, rates: pd.DataFrame, case: str, style: Mapping[str, Look]) -> Picture | None:
    data = _clean(results.scores(case, "relative_error"))
    if data.empty:
        return None
    figure, axes = _axes()
    _curves(axes, data, style, list(results.estimators))
    axes.set(yscale="log", xlabel="depth (layers)", ylabel="relative error of the gradient")
    low, high = data["value"].min(), data["value"].max()
    bound = _bound(results, case)
    near = low < bound * 1e3
    if near:
        low = min(low, bound)
    axes.set_ylim(low / 8, high * 3)
    _ticks(axes.yaxis, low / 8, high * 3)
    # A bound far below all errors is told, not drawn: the curves would be squeezed to make room for it.
    if near:
        axes.axhspan(low / 8, bound, color=INK, alpha=0.1, linewidth=0)
    if bound > 0:
        place = {"y": bound, "transform": axes.get_yaxis_transform()} if near else {"y": 0.02, "transform": axes.transAxes}
        label = f"certified bound {text.number(bound)}{'' if near else ', below this axis'}"
        axes.text(x=0.02, s=label, fontsize=9, va="bottom", **place)
    laws = _theory(axes, results, rates, case, data)
    _legend(axes)
    remark = f" Dashed grey lines: theory, {text.listing(laws)}." if laws else ""
    return _picture(
        figure, results, case, "error", "Error against depth", data, f"relative error against depth on a log scale.{remark}"
    )


def _theory(axes: Any, results: Results, rates: pd.DataFrame, case: str, data: pd.DataFrame) -> list[str]:
    """Draw the predicted slopes through the middle of the window, and return what they are."""
    fitted = rates[(rates["case"] == case) & rates["rate"].notna() & rates["predicted_slope"].notna()]
    drawn = []
    for estimator in (BASE, WINDOW):
        fits = fitted[fitted["estimator"] == estimator]
        if fits.empty:
            continue
        records = results.records
        claim = records[(records["case"] == case) & (records["estimator"] == estimator)].iloc[0]
        problem = results.cases[case]
        theory = law(problem["loss"], problem["algorithm"], claim["computes"], claim["consistent_for"])
        # The median seed's slope, where the median curve is drawn.
        slope = fits["predicted_slope"].median()
        first, last = int(fits["first_depth"].min()), int(fits["last_depth"].max())
        median = data[data["estimator"] == estimator].groupby("depth")["value"].median()
        inside = median[(median.index >= first) & (median.index <= last)]
        if len(inside) < 2:
            continue
        anchor = inside.index[0]
        depths = np.linspace(anchor, last, 50)
        heights = np.log(inside.iloc[0]) + slope * (depths - anchor)
        if theory.linear:
            heights = heights + np.log(depths / anchor)
        # A little above the curve, so that both are seen.
        shown = np.exp(heights) * 3
        axes.plot(depths, shown, color=INK, alpha=0.55, linewidth=1.3, linestyle=(0, (4, 3)), zorder=1)
        place = (depths[25], shown[25])
        axes.annotate(str(theory), place, xytext=(4, 4), textcoords="offset points", fontsize=10)
        drawn.append(str(theory))
    return drawn


def _cosine(results: Results, case: str, style: Mapping[str, Look]) -> Picture | None:
    data = _clean(results.scores(case, "cosine_error"))
    data = data[data["value"] > 0]
    if data.empty:
        return None
    figure, axes = _axes()
    _curves(axes, data, style, list(results.estimators))
    axes.set(yscale="log", xlabel="depth (layers)", ylabel="1 - cosine to the reference")
    _ticks(axes.yaxis, *axes.get_ylim())
    _legend(axes)
    return _picture(figure, results, case, "cosine", "Direction against depth", data,
                    "1 minus the cosine between estimate and reference, against depth on a log scale.")  # fmt: skip


def _memory(results: Results, case: str, style: Mapping[str, Look]) -> Picture | None:
    data = _clean(results.measured(case, "memory_bytes"))
    if data.empty:
        return None
    data["value"] = data["value"] / 2**20
    figure, axes = _axes()
    _curves(axes, data, style, list(results.estimators))
    axes.set(xlabel="depth (layers)", ylabel="peak memory over the baseline (MiB)")
    axes.set_ylim(bottom=0)
    _legend(axes)
    return _picture(figure, results, case, "memory", "Memory against depth", data,
                    "peak memory above that of a process that estimates nothing, in MiB, against depth.")  # fmt: skip


def _time(results: Results, case: str, style: Mapping[str, Look]) -> Picture | None:
    """Draw error against time at the depths that were both scored and timed."""
    errors = _clean(results.scores(case, "relative_error"))
    times = _clean(results.measured(case, "seconds"))[["estimator", "depth", "value"]]
    data = errors.merge(times.rename(columns={"value": "seconds"}), on=["estimator", "depth"])
    data = data[data["seconds"] > 0]
    if data.empty:
        return None
    figure, axes = _axes()
    for name in results.estimators:
        depths = data[data["estimator"] == name].groupby("depth")
        errors = depths["value"].agg(["median", "min", "max"])
        part = errors.assign(seconds=depths["seconds"].first())
        if part.empty:
            continue
        look = style[name]
        axes.plot(part["seconds"], part["median"], color=look.colour, marker=look.marker, linestyle=look.line, linewidth=1.6,
                  markersize=6, markeredgewidth=0, label=name)  # fmt: skip
        axes.fill_between(part["seconds"], part["min"], part["max"], color=look.colour, alpha=0.14, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="time of one gradient", ylabel="relative error of the gradient")
    _ticks(axes.xaxis, *axes.get_xlim(), text.seconds)
    _ticks(axes.yaxis, *axes.get_ylim())
    _legend(axes)
    depths = text.numbers(data["depth"].tolist())
    return _picture(figure, results, case, "time", "Error against time", data,
                    f"relative error against the time of one gradient, both on log scales, at depths {depths}.")  # fmt: skip


def _clean(data: pd.DataFrame) -> pd.DataFrame:
    """Keep what is drawn, with plain integers: seaborn does not take pandas' nullable ones."""
    data = data[["case", "estimator", "depth", "seed", "value"]].copy()
    return data.astype({"depth": "int64"})


def _bound(results: Results, case: str) -> float:
    references = results.references
    rows = (references["case"] == case) & (references["target"] == results.target(case))
    bounds = references.loc[rows & (references["status"] == "certified"), "bound"].dropna()
    return float(bounds.max()) if len(bounds) else 0.0


def _ticks(axis: Any, low: float, high: float, show: Callable[[float], str] | None = None) -> None:
    """Label a log axis sparsely: whole decades where there are enough of them, steps between where there are not."""
    decades = np.log10(high / low)
    steps = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8 if len(steps) == 1 else 15))
    axis.set_minor_locator(NullLocator())
    if show is not None or len(steps) > 1:
        shown = show or text.number
        axis.set_major_formatter(FuncFormatter(lambda value, position: shown(value)))


def _legend(axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if axes.get_legend() is not None:
        axes.get_legend().remove()
    # Above the axes, so that no curve is ever hidden; the figure grows by the legend's height, not the axes shrink.
    axes.figure.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=10, handlelength=3.6, columnspacing=1.5)
    axes.figure.set_size_inches(SIZE[0], SIZE[1] + 0.24 * ((len(labels) + 1) // 2 - 1))


def _picture(figure: Figure, results: Results, case: str, name: str, kind: str, data: pd.DataFrame, what: str) -> Picture:
    count = data["seed"].nunique()
    seeds = f" Median over {count} seeds, band from least to greatest." if count > 1 else ""
    ends = []
    for estimator in results.estimators:
        part = data[data["estimator"] == estimator]
        if len(part):
            last = part[part["depth"] == part["depth"].max()]
            ends.append(f"{estimator} {text.number(last['value'].median())} at depth {last['depth'].iloc[0]}")
    label = f"{name}-{re.sub(r'[^A-Za-z0-9]+', '-', case)}"
    unit = " (MiB)" if name == "memory" else ""
    alt = f"{case}: {what}{seeds} Last values{unit}: {'; '.join(ends)}."
    return Picture(label, kind, case, _svg(figure, label, alt), alt, data.to_csv(index=False))


def _svg(figure: Figure, label: str, alt: str) -> str:
    """Return a figure as SVG that can stand inside a page beside others."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The page's reader has system-ui; this machine need not, and text stays text.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Namespaces go without saying inside HTML; sizes are the page's to choose.
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", svg, count=1)
    svg = svg.replace(INK, "currentColor")
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{label}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{label}-", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_escape(alt)}"', 1).strip()


def _escape(value: str) -> str:
    return value.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
