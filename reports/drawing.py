"""What all figures share: style, axes, curves, legends, and the figure as SVG, PDF, PNG and CSV."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pudle.reports import text
from pudle.reports.looks import Look

#: Stands for the color of the surrounding text until a page's SVG is written.
INK = "#010203"
SIZE = (6.0, 4.3)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # Text in a PDF stays text that an editor can change.
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    "axes.grid": True,
    "grid.alpha": 0.15,
    **dict.fromkeys(("grid.color", "axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "none"),
    "savefig.facecolor": "auto",
    "legend.frameon": False,
    "axes.unicode_minus": True,
    # Text is shown as it is: a name may hold a dollar sign, and formulas would take half of the time of drawing.
    "text.parse_math": False,
}
#: Context, or decorator, that draws in the suite's style and restores matplotlib's settings afterwards.
drawing = partial(mpl.rc_context, STYLE)
#: Begins the id of an artist that belongs to one estimator, whose name follows; a page hides and shows both together.
ESTIMATOR = "estimator="
#: Id of an artist about all estimators together, which is wrong as soon as one of them is hidden.
TOGETHER = "together"
#: Metadata that would make the same figure differ from one run to the next.
METADATA: dict[str, dict[str, None]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
    "png": dict.fromkeys(("Software",)),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with what a page needs to show it.

    `name` is its file name without ending, pictures of one `kind` stand together, and `alt` describes it to readers who
    cannot see it. Where it is about all cases, `case` is empty, and a `title` may stand above it. `csv` is the data drawn.
    """

    name: str
    kind: str
    case: str
    figure: Figure | None
    alt: str
    csv: str
    title: str = ""
    #: What is drawn already, by the ending of the file.
    saved: Mapping[str, bytes] = field(default_factory=dict)

    @cached_property
    def svg(self) -> str:
        """SVG to put inside a page, which chooses its size, its font and the color of its text."""
        root = _parse(self._drawn)
        root.attrib = {"role": "img", "aria-label": self.alt, "viewBox": root.attrib["viewBox"]}
        shown = ElementTree.tostring(root, encoding="unicode").replace(" />", "/>").replace(INK, "currentColor")
        return re.sub(r" font-family: [^;\"]*;", "", shown)

    @cached_property
    def _drawn(self) -> bytes:
        # Ids are hashes of this salt: no two figures of a page share one.
        with mpl.rc_context({"svg.hashsalt": self.name}):
            return self._saved("svg")

    def _saved(self, ending: str) -> bytes:
        options = {} if ending == "svg" else {"facecolor": "white"}
        return self.saved[ending] if self.figure is None else _save(self.figure, ending, **options)

    def drawn(self, endings: Sequence[str]) -> Picture:
        """Return the picture with its SVG and the files with other endings in place of the figure."""
        others = {ending: self._saved(ending) for ending in endings if ending not in ("csv", "svg")}
        return replace(self, figure=None, saved={"svg": self._drawn, **others})

    def files(self, endings: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of the figure's files, on a white background so that they can be read anywhere."""
        for ending in endings:
            if ending == "csv":
                content = self.csv.encode()
            elif ending == "svg":
                content = _standing_alone(_parse(self._drawn), self.alt).encode()
            else:
                content = self._saved(ending)
            yield f"{self.name}.{ending}", content


def axes(columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a new figure and its axes; pyplot does not know it, so that nothing global is left behind."""
    figure = Figure(figsize=(SIZE[0] * columns, SIZE[1]), layout="constrained")
    # This canvas keeps the renderer that measures text; without it every measurement makes one, in the time of ten texts.
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, **options)


def marks(at: Any, x: Any, y: Any, name: str, look: Look, **options: Any) -> list[Any]:
    """Draw an estimator's marker at every point, without a line between them."""
    plain = {"color": look.color, "marker": look.marker, "linestyle": "", "markeredgewidth": 0, "gid": ESTIMATOR + name}
    return at.plot(x, y, **plain | options)


def curve(at: Any, data: pd.DataFrame, x: str, name: str, look: Look, **options: Any) -> None:
    """Draw one estimator's median over seeds against `x`, with a band from the least to the greatest."""
    plain = {"linewidth": 1.6, "markersize": 6, "markeredgewidth": 0, "linestyle": look.line, "marker": look.marker}
    at.plot(data[x], data["median"], color=look.color, gid=ESTIMATOR + name, **plain | {"label": name} | options)
    if (data["greatest"] > data["least"]).any():
        at.fill_between(data[x], data["least"], data["greatest"], color=look.color, alpha=0.14, linewidth=0,
                        gid=ESTIMATOR + name)  # fmt: skip


def ticks(axis: Any, low: float, high: float, show: Callable[[float], str] | None = None) -> None:
    """Label a log axis sparsely: at whole decades where there are enough of them, else also between them."""
    decades = np.log10(high / low)
    steps = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.6 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8 if len(steps) == 1 else 15))
    axis.set_minor_locator(NullLocator())
    label = show or (text.power_of_ten if len(steps) == 1 else text.number)
    axis.set_major_formatter(FuncFormatter(lambda value, position: label(value)))


def legend(figure: Figure, at: Any, columns: int = 2, owners: Mapping[str, str] | None = None) -> None:
    """Put a legend above the axes, where it hides no curve, and make the figure higher by as much.

    Labels are names of estimators; `owners` maps other labels to the estimator that they belong to.
    """
    handles, labels = at.get_legend_handles_labels()
    if not labels:
        return
    made: Any = figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=10, handlelength=3.6,
                              columnspacing=1.5)  # fmt: skip
    for handle, label in zip(made.legend_handles, made.get_texts(), strict=True):
        for artist in (handle, label):
            artist.set_gid(ESTIMATOR + (owners or {}).get(label.get_text(), label.get_text()))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.24 * ((len(labels) + columns - 1) // columns - 1))


def file_name(*parts: str) -> str:
    """Return parts as one name that any file system accepts."""
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(filter(None, parts))).strip("-")


def ends(data: pd.DataFrame, estimators: Sequence[str]) -> str:
    """Return the last value of every curve in words."""
    deepest = data.sort_values("depth", kind="stable").groupby("estimator").last()
    shown = deepest.loc[[name for name in estimators if name in deepest.index]].itertuples()
    return "; ".join(f"{row.Index} {text.number(row.median)} at depth {row.depth}" for row in shown)


def table(data: pd.DataFrame, columns: Mapping[str, str] | None = None) -> str:
    """Return drawn data as CSV, in as many digits as a figure can show."""
    return text.csv(data.rename(columns=dict(columns or {})), float_format="%.6g")


def _save(figure: Figure, ending: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), drawing():
        # A spec may hold letters that this font lacks; the page's reader has others.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        if layout := figure.get_layout_engine():
            # Found once for all formats, without the whole drawing that saving a figure with a layout engine adds.
            layout.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=ending, metadata=METADATA[ending], dpi=130, **options)
    return buffer.getvalue()


# -- SVG


def _parse(drawn: bytes) -> ElementTree.Element:
    """Parse matplotlib's SVG, and drop what nobody sees: namespaces, white space, digits finer than any screen."""
    root = ElementTree.fromstring(drawn)
    for metadata in root.findall("{*}metadata"):
        root.remove(metadata)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text, element.tail = ((value or "").strip() or None for value in (element.text, element.tail))
        gid = element.attrib.pop("id", "")
        attributes = {name.rpartition("}")[2]: re.sub(r"\d+\.\d{2,}", _round, value) for name, value in element.items()}
        if gid.startswith(ESTIMATOR):
            attributes["data-estimator"] = gid.removeprefix(ESTIMATOR)
        elif gid == TOGETHER:
            attributes["data-together"] = ""
        elif element.tag != "g":
            # Nothing refers to a group.
            attributes["id"] = gid
        element.attrib.clear()
        element.attrib.update({name: value for name, value in attributes.items() if value or name == "data-together"})
    return root


def _round(match: re.Match[str]) -> str:
    # Markers are small and keep one more digit.
    value = float(match[0])
    return f"{value:.{1 if value >= 10 else 2}f}".rstrip("0").rstrip(".")


def _standing_alone(root: ElementTree.Element, alt: str) -> str:
    """Return a figure's SVG as a file: on white, with its description as title."""
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "xmlns:xlink": "http://www.w3.org/1999/xlink"}
    title = ElementTree.Element("title")
    title.text = alt
    root[:0] = [title, ElementTree.Element("rect", {"width": "100%", "height": "100%", "fill": "white"})]
    for element in root.iter():
        if "href" in element.attrib:
            element.set("xlink:href", element.attrib.pop("href"))
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
