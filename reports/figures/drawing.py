"""What the figures in files share: style, axes, legends, and the figure as SVG, PDF, PNG and CSV.

The page draws its own; matplotlib and seaborn are imported only when a file is asked for.
"""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from pudle import text
from pudle.reports import markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (6.0, 4.3)
STYLE: dict[Any, Any] = {
    # Text in an SVG or a PDF stays text that an editor can change.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.facecolor": "white",
    # Text is shown as it is: a name may hold a dollar sign.
    "text.parse_math": False,
}
#: Metadata that would make the same figure differ from one run to the next.
METADATA: dict[str, dict[str, None]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
    "png": dict.fromkeys(("Software",)),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure for files: `name` is the file's without ending, pictures of one `kind` stand
    together.

    `case` is empty for a figure about all cases, over which a `title` may stand. `alt` describes it
    in words, `data` is what it shows, and `draw` draws it.
    """

    name: str
    kind: str
    case: str
    alt: str
    data: pd.DataFrame
    draw: Callable[[], Figure]
    title: str = ""

    def files(self, endings: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of the figure's files, drawn at most once."""
        if "csv" in endings:
            yield f"{self.name}.csv", markup.csv(self.data, float_format="%.6g").encode()
        if drawn := [ending for ending in endings if ending != "csv"]:
            figure = self.draw()
            for ending in drawn:
                yield f"{self.name}.{ending}", _save(figure, ending, self.name, self.alt)


def drawing(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Make a function draw in the suite's style and restore matplotlib's settings afterwards."""

    @functools.wraps(function)
    def drawn(*arguments: Any, **options: Any) -> Figure:
        import matplotlib as mpl

        with mpl.rc_context(STYLE):
            return function(*arguments, **options)

    return drawn


def axes(columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a new figure and its axes; pyplot does not know it, so that nothing global is left
    behind.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0] * columns, SIZE[1]), layout="constrained")
    return figure, figure.subplots(1, columns, **options)


def log_axis(axis: Any, show: Callable[[float], str] = text.number) -> None:
    """Make an axis logarithmic, with few labels: at whole decades where there are enough of them,
    else also between them.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    at = axis.axes
    (at.set_xscale if axis is at.xaxis else at.set_yscale)("log")
    low, high = axis.get_view_interval()
    steps = (1.0,) if high > 1e3 * low else (1.0, 3.0) if high > 40 * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8 if len(steps) == 1 else 15))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, position: show(value)))


def legend(figure: Figure, at: Any, columns: int = 2) -> None:
    """Put the legend of some axes above them, where it hides no curve, and make the figure higher
    by as much.
    """
    handles, labels = at.get_legend_handles_labels()
    if at.get_legend():
        at.get_legend().remove()
    if not labels:
        return
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        fontsize=10,
        handlelength=3.6,
        columnspacing=1.5,
    )
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.24 * ((len(labels) + columns - 1) // columns - 1))


def file_name(*parts: str) -> str:
    """Return parts as one name that any file system accepts."""
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(filter(None, parts))).strip("-")


def _save(figure: Figure, ending: str, name: str, alt: str) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    about = {} if ending == "png" else {"Title": alt}
    # Ids are hashes of this salt: two figures in one document share none.
    with warnings.catch_warnings(), mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        # A spec may hold letters that this font lacks; the reader's program has others.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        figure.savefig(buffer, format=ending, metadata=METADATA[ending] | about, dpi=130)
    return buffer.getvalue()
