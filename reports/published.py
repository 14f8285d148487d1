"""Compare measured errors with the published ones: ``python -m pudle.reports.published
CURVES.csv``.
"""

import itertools
from pathlib import Path

import click
import pandas as pd

from pudle.errors import PudleError
from pudle.reports import markup
from pudle.reports.load import Results, load
from pudle.terminal import PATH, echo

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
    frame = results.numbers[results.numbers["metric"].eq("absolute_error")]
    frame = frame[frame["case"].str.startswith("published-")]
    keys = ["estimator", "loss", "target", "depth"]
    spreads = frame.groupby(keys)["value"].agg(["median", "min", "max"])
    rows = []
    for (pair, method), target, depth in itertools.product(METHODS.items(), TARGETS, DEPTHS):
        middle, least, greatest = spreads.loc[*pair, target, depth]
        published = curves.loc[depth, f"{method}_vs_{target}"]
        rows.append(
            {
                "method": method,
                "target": target,
                "depth": depth,
                "measured": f"{middle:.2e}",
                "over seeds": f"{least:.2e} to {greatest:.2e}",
                "published": f"{published:.2e}",
                "deviation": f"{middle / published - 1:+.0%}",
            }
        )
    return pd.DataFrame(rows)


@click.command()
@click.argument("curves", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--home", type=PATH, default=Path(".asv"), show_default=True)
def main(curves: Path, home: Path) -> None:
    """Print measured and published errors of `pudle run --profile paper --case 'published-*'`."""
    try:
        table = compare(load(home, "paper"), pd.read_csv(curves, index_col="depth"))
    except (KeyError, PudleError) as error:
        raise click.ClickException(f"cannot compare {curves} with {home}: {error}") from None
    echo(markup.markdown_table(table))


if __name__ == "__main__":
    main()
