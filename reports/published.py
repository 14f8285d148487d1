"""Compare measured errors with the published ones: ``python -m pudle.reports.published
CURVES.csv``.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click
import pandas as pd

from pudle.errors import InvalidArgument
from pudle.reports import markup
from pudle.reports.load import Results, load

#: Published name of each (estimator, loss), as the columns of the file of curves spell it.
METHODS = {
    ("alternating", "lasso"): "dec",
    ("backprop", "lasso"): "aelasso",
    ("backprop", "reconstruction"): "aels",
}
TARGETS, DEPTHS = ("ghat", "gstar", "gtilde"), (5, 10, 25, 50, 75, 100)


def compare(results: Results, curves: pd.DataFrame) -> pd.DataFrame:
    """Return measured and published absolute errors of the paper profile as text, one row per
    (method, target, depth).

    The published `curves` are indexed by depth and have columns such as ``dec_vs_ghat``. Measured
    errors are medians over the seeds, and the deviation is measured over published, minus one.
    """
    frame = results.frame
    frame = frame[
        frame.case.str.startswith("published-")
        & (frame.metric == "absolute_error")
        & (frame.status == "ok")
    ]
    rows = []
    for ((estimator, loss), method), target, depth in itertools.product(
        METHODS.items(), TARGETS, DEPTHS
    ):
        chosen = (
            (frame.estimator == estimator)
            & (frame.loss == loss)
            & (frame.target == target)
            & (frame.depth == depth)
        )
        values, published = frame[chosen].value, float(curves.loc[depth, f"{method}_vs_{target}"])
        rows.append(
            {
                "method": method,
                "target": target,
                "depth": depth,
                "measured": f"{values.median():.2e}",
                "over seeds": f"{values.min():.2e} to {values.max():.2e}",
                "published": f"{published:.2e}",
                "deviation": f"{values.median() / published - 1:+.0%}",
            }
        )
    return pd.DataFrame(rows)


@click.command()
@click.argument("curves", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--home", type=click.Path(path_type=Path), default=Path(".asv"), show_default=True)
def main(curves: Path, home: Path) -> None:
    """Print measured and published errors of `pudle run --profile paper --case 'published-*'`."""
    published = pd.read_csv(curves, index_col="depth")
    if missing := [depth for depth in DEPTHS if depth not in published.index]:
        raise InvalidArgument(
            f"{curves} has no depth {missing[0]}: give the file of published curves"
        )
    click.echo(markup.markdown_table(compare(load(home, "paper"), published)))


if __name__ == "__main__":
    main()
