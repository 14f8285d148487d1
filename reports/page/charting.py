"""The charting library of the page: Vega-Lite, from the package vl-convert-python, which holds its JavaScript.

Chosen over Bokeh, the other library whose Python package brings its script. By size: 0.9 MB in the page, against 1.4 MB for
Bokeh with its API. By looks and use: charts are SVG, sharp on paper and at any zoom, with names for screen readers and one
specification that a page needs no more code for; Bokeh draws on a canvas. By safety: its interpreter of expressions needs no
``eval``, so that the page keeps its policy. By upkeep: both are well kept. By speed Bokeh leads with many thousand points,
which no figure of this page has. What it costs: 84 MB on disk, against 32 MB, and some seconds to put the script together,
which is therefore done once per version and kept in the user's cache.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pudle.files import write_atomically


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
