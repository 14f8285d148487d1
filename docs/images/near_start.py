"""Draw `near_start.svg`: the relative error along trainings near the generating dictionary.

The published ends stand beside it. It takes a folder of results, those of the experiments `noodl-*`
and `annealed-*`, such as `.asv/paper/store/experiments`.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from pudle.reports.figures.drawing import STYLE

#: What the paper's authors published after 1000 steps, by method and nonzero coefficients.
PUBLISHED = {
    ("noodl", 10): 3.9e-3,
    ("noodl", 20): 1.7e-4,
    ("noodl", 40): 2.3e-6,
    ("annealed", 10): 5.2e-6,
    ("annealed", 20): 5.7e-6,
    ("annealed", 40): 4.0e-5,
}
TITLES = {"noodl": "NOODL", "annealed": "decay lowered along the training"}


def draw(folder: Path) -> Figure:
    """Return a panel for each method, with a curve for each number of nonzero coefficients."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (method, title) in zip(panels, TITLES.items(), strict=True):
        panel.set(title=title, xlabel="steps", yscale="log")
        for color, sparsity in enumerate((10, 20, 40)):
            end = PUBLISHED[method, sparsity]
            panel.plot(1000, end, "x", color=f"C{color}", markersize=8, clip_on=False)
            for path in sorted(folder.glob(f"{method}-s{sparsity}-s*.json")):
                rows = json.loads(path.read_text())["rows"]
                steps = [row["step"] for row in rows]
                errors = [row["relative_error"] for row in rows]
                label = f"s = {sparsity}" if "-s0-" in path.name else None
                panel.plot(steps, errors, color=f"C{color}", label=label)
        panel.legend(title="cross: published")
    panels[0].set_ylabel("relative error")
    return figure


if __name__ == "__main__":
    with mpl.rc_context(STYLE | {"svg.hashsalt": "near_start"}):
        target = Path(__file__).with_suffix(".svg")
        draw(Path(sys.argv[1])).savefig(target, metadata={"Date": None})
