"""What all figures share: axes, curves, legends, and a figure's ways out as SVG, PDF, PNG and CSV."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pudle.reports import text
from pudle.reports.looks import Look

#: Stands for the color of the text around the figure until the page's SVG is written.
INK = "#010203"
SIZE = (6.0, 4.3)
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pudle",
    # Text in a PDF stays text that an editor can change.
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
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
    "savefig.facecolor": "auto",
    "legend.frameon": False,
    "axes.unicode_minus": True,
}
#: An artist whose id begins so belongs to the estimator named after it, and is hidden and shown with it.
BELONGS = "estimator="
#: Id of what is about all estimators together, and holds no longer when one of them is hidden.
TOGETHER = "together"


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with what a page needs of it.

    Attributes
    ----------
    name : str
        File name without its ending.
    kind : str
        What it shows; pictures of one kind stand together.
    case : str
        Empty where it is about all cases.
    figure : Figure
    alt : str
        What there is to see, for who cannot see it.
    csv : str
        The data drawn.
    title : str
        Stands over it where it is about no case.
    """

    name: str
    kind: str
    case: str
    figure: Figure
    alt: str
    csv: str
    title: str = ""

    @cached_property
    def svg(self) -> str:
        """SVG to stand inside a page, in the color of the text around it."""
        return _inline(self._drawn, self.name, self.alt)

    @cached_property
    def _drawn(self) -> str:
        drawn = _save(self.figure, "svg").decode()
        # The layout is found, which takes as long as drawing does; the other formats need not look for it again.
        self.figure.set_layout_engine("none")
        return drawn

    def files(self, endings: Sequence[str] = ("svg", "pdf", "csv")) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of the figure as files: on white, so that they can be read wherever they are put."""
        for ending in endings:
            if ending == "csv":
                content = self.csv.encode()
            elif ending == "svg":
                content = _standing_alone(self._drawn, self.alt).encode()
            else:
                _ = self._drawn
                with _on_white(self.figure):
                    content = _save(self.figure, ending)
            yield f"{self.name}.{ending}", content


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the suite's style, and leave nothing of it behind."""
    with mpl.rc_context(STYLE):
        yield


def axes(columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure of its own, outside pyplot, so that nothing global is left behind, and its axes."""
    figure = Figure(figsize=(SIZE[0] * columns, SIZE[1]), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, **options)


def curve(at: Any, data: pd.DataFrame, x: str, name: str, look: Look, **options: Any) -> None:
    """Draw one estimator's median over seeds against `x`, with the band from the least to the greatest."""
    plain = {"linewidth": 1.6, "markersize": 6, "markeredgewidth": 0, "linestyle": look.line, "marker": look.marker}
    at.plot(data[x], data["median"], color=look.color, gid=BELONGS + name, **plain | {"label": name} | options)
    if (data["greatest"] > data["least"]).any():
        at.fill_between(data[x], data["least"], data["greatest"], color=look.color, alpha=0.14, linewidth=0,
                        gid=BELONGS + name)  # fmt: skip


def over_seeds(data: pd.DataFrame, *further: str) -> pd.DataFrame:
    """Return median, least and greatest value over the seeds, per estimator, depth and what else is asked for."""
    grouped = data.groupby(["estimator", "depth", *further], sort=False, dropna=False)["value"]
    found = grouped.agg(["median", "min", "max"]).rename(columns={"min": "least", "max": "greatest"}).reset_index()
    return found.astype({"depth": "int64"}).sort_values(["estimator", "depth"], kind="stable")


def ticks(axis: Any, low: float, high: float, show: Callable[[float], str] | None = None) -> None:
    """Label a log axis sparsely: whole decades where there are enough of them, steps between where there are not."""
    decades = np.log10(high / low)
    steps = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.6 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8 if len(steps) == 1 else 15))
    axis.set_minor_locator(NullLocator())
    if show is not None or len(steps) > 1:
        shown = show or text.number
        axis.set_major_formatter(FuncFormatter(lambda value, position: shown(value)))


def legend(figure: Figure, at: Any, columns: int = 2, owners: Mapping[str, str] | None = None) -> None:
    """Put the legend above the axes, so that no curve is ever hidden, and let the figure grow by its height.

    Labels are estimators, or belong to those that `owners` names.
    """
    owners = owners or {}
    handles, labels = at.get_legend_handles_labels()
    if not labels:
        return
    made = figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=10, handlelength=3.6,
                         columnspacing=1.5)  # fmt: skip
    for handle, label in zip(made.legend_handles, made.get_texts(), strict=True):
        owner = owners.get(label.get_text(), label.get_text())
        handle.set_gid(BELONGS + owner)
        label.set_gid(BELONGS + owner)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.24 * ((len(labels) + columns - 1) // columns - 1))


def file_name(*parts: str) -> str:
    """Return parts as one name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(filter(None, parts))).strip("-")


def ends(data: pd.DataFrame, estimators: Sequence[str]) -> str:
    """Return the last value of every curve as words."""
    found = []
    for name in estimators:
        part = data[data["estimator"] == name]
        if len(part):
            last = part.loc[part["depth"].idxmax()]
            found.append(f"{name} {text.number(last['median'])} at depth {last['depth']}")
    return "; ".join(found)


def table(data: pd.DataFrame, columns: Mapping[str, str] | None = None) -> str:
    """Return drawn data as CSV, in as many digits as a figure can show."""
    data = data.rename(columns=dict(columns or {}))
    return data.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _save(figure: Figure, ending: str) -> bytes:
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    fonts = logging.getLogger("fontTools")
    level = fonts.level
    with warnings.catch_warnings(), mpl.rc_context(STYLE):
        # A spec may hold letters that this font lacks; in the page they are the browser's to draw.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        fonts.setLevel(logging.ERROR)
        try:
            figure.savefig(buffer, format=ending, metadata=metadata[ending], dpi=130)
        finally:
            fonts.setLevel(level)
    return buffer.getvalue()


@contextmanager
def _on_white(figure: Figure) -> Iterator[None]:
    before = figure.get_facecolor()
    figure.set_facecolor("white")
    try:
        yield
    finally:
        figure.set_facecolor(before)


def _standing_alone(svg: str, alt: str) -> str:
    """Return a figure's SVG as a file: smaller, on white, and named for who cannot see it."""
    svg = _short(svg)
    head = re.search(r"<svg[^>]*>", svg)
    assert head is not None
    title = f'<title>{_escape(alt)}</title><rect width="100%" height="100%" fill="white"/>'
    return svg[: head.end()] + title + svg[head.end() :].replace(f' id="{TOGETHER}"', "")


def _short(svg: str) -> str:
    """Cut what nobody sees: digits below what any screen shows, and what goes without saying in a path."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(rf' id="{BELONGS}([^"]*)"', r' data-estimator="\1"', svg)
    # Of tags only, and of no name in them: numbers in words and in an estimator's name are what they say.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r' (?:id|data-estimator)="[^"]*"|\d+\.\d{2,}', _rounded, tag[0]), svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r' d="[^"]*"', _path, svg)
    return re.sub(r"\n\s*", "\n", svg)


def _rounded(match: re.Match[str]) -> str:
    if match[0].startswith(" "):
        return match[0]
    # Markers are small and keep a digit more.
    value = float(match[0])
    return f"{value:.{1 if value >= 10 else 2}f}".rstrip("0").rstrip(".")


def _path(match: re.Match[str]) -> str:
    path = f" {' '.join(match[0].split())}"
    # Points after the first are lines without saying so, unless there are curves among them.
    return re.sub(r"\s*L ", " ", path) if not re.search(r"[CQ] ", path) else path


def _inline(svg: str, label: str, alt: str) -> str:
    """Return a figure's SVG so that it can stand inside a page beside others."""
    svg = _short(svg[svg.index("<svg") :])
    # Namespaces go without saying inside HTML; sizes and letters are the page's to choose.
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg).replace(INK, "currentColor")
    svg = re.sub(rf' id="{TOGETHER}"', " data-together", svg)
    # Every marker of a figure refers to one of a few shapes: short ids, and still no two alike in a page.
    prefix = hashlib.sha256(label.encode()).hexdigest()[:6]
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    ids = {name: f"f{prefix}-{place}" for place, name in enumerate(used)}
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{ids[match[1]]}"' if match[1] in ids else "", svg)
    svg = re.sub(r'(href="|url\()#([^")]+)', lambda match: f"{match[1]}#{ids[match[2]]}", svg)
    svg = re.sub(r'(<g[^>]*)>((?:\s*<use [^>]* style="([^"]*)"/>)(?:\s*<use [^>]* style="\3"/>)*)\s*</g>', _share, svg)
    for _ in range(3):
        # Groups that say nothing about what they hold.
        svg = re.sub(r"<g>\s*((?:<(?:path|use)[^>]*/>\s*|<text[^>]*>[^<]*</text>\s*)+)</g>", r"\1", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_escape(alt)}"', 1).strip()


def _share(match: re.Match[str]) -> str:
    """Give a group the style that all of its markers have, instead of each marker."""
    style = f' style="{match[3]}"'
    return f"{match[1]}{style}>{match[2].replace(style, '')}</g>"


def _escape(value: str) -> str:
    return value.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
