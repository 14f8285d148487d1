"""Draw the rooms of the package in five bands: `python docs/images/architecture.py` writes
architecture.svg beside this file.
"""

from pathlib import Path
from xml.sax.saxutils import escape

#: Each band: its title, what it may know, and its rooms with what each holds. A room may import
#: rooms of its own band, in the order of the contract in pyproject.toml, and those of bands below.
BANDS = (
    (
        "Extensions",
        "found through entry points",
        (
            ("estimators", "one gradient estimator per file"),
            ("datasets", "one dataset per file"),
            ("bench", "asv's benchmarks, the cases"),
            ("reports", "results to tables and pages"),
        ),
    ),
    (
        "Questions",
        "what people ask",
        (
            ("advising", "which estimator to use"),
            ("learning", "what a gradient buys"),
            ("conformance", "is a claim true"),
            ("measuring", "how accurate, how fast"),
            ("auditing", "is a layer's gradient right"),
        ),
    ),
    (
        "Truth",
        "independent of every estimator",
        (
            ("references", "exact gradients, certificates"),
            ("data", "what datasets share"),
            ("peers", "other libraries' gradients"),
        ),
    ),
    (
        "Mathematics",
        "what is solved, and how",
        (
            ("estimator", "the interface of estimators"),
            ("algorithms", "what is unrolled, kernels"),
            ("problems", "objectives and losses"),
        ),
    ),
    (
        "Ground",
        "knows nothing of the above",
        (
            ("names", "from name to object"),
            ("answers", "rules on plain numbers"),
            ("files", "whole files or none"),
            ("workers", "processes that end"),
            ("cli", "the program"),
        ),
    ),
)
WIDTH, TITLE_WIDTH, MARGIN, HEIGHT, GAP = 1180, 210, 12, 74, 12
STYLE = """
  text { font-family: system-ui, "DejaVu Sans", sans-serif; fill: #1b1f24; }
  .title { font-size: 17px; font-weight: 600; }
  .hint { font-size: 12.5px; fill: #57606a; }
  .room { font-size: 15px; font-weight: 600; }
  .band { fill: #f3f5f8; }
  .box { fill: #ffffff; stroke: #8c96a3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e9ee; }
    .hint { fill: #a3adb9; }
    .band { fill: #20262e; }
    .box { fill: #14181d; stroke: #5c6773; }
  }
"""


def draw() -> str:
    """Return the picture as SVG."""
    height = len(BANDS) * (HEIGHT + GAP) + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>The rooms of the package: each imports what stands below it, never above</title>",
        f"<style>{STYLE}</style>",
    ]
    for number, (title, hint, rooms) in enumerate(BANDS):
        top = GAP + number * (HEIGHT + GAP)
        lines += [
            f'<rect class="band" x="0" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
            f'<text class="title" x="{MARGIN}" y="{top + 32}">{escape(title)}</text>',
            f'<text class="hint" x="{MARGIN}" y="{top + 52}">{escape(hint)}</text>',
        ]
        width = (WIDTH - TITLE_WIDTH - MARGIN) / len(rooms)
        for place, (room, content) in enumerate(rooms):
            left = TITLE_WIDTH + MARGIN + place * width
            lines += [
                f'<rect class="box" x="{left:.0f}" y="{top + 9}" width="{width - MARGIN:.0f}"'
                f' height="{HEIGHT - 18}" rx="6"/>',
                f'<text class="room" x="{left + 11:.0f}" y="{top + 34}">{escape(room)}</text>',
                f'<text class="hint" x="{left + 11:.0f}" y="{top + 53}">{escape(content)}</text>',
            ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw())
