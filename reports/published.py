"""The published local-gradient experiment beside the measured one: ``python -m pudle.reports.published CURVES.csv``."""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from pudle.errors import InvalidArgument
from pudle.reports.load import Results, load

#: Published name of each (estimator, loss), as the columns of the file of curves spell it.
METHODS = {("alternating", "lasso"): "dec", ("backprop", "lasso"): "aelasso", ("backprop", "reconstruction"): "aels"}
DEPTHS = (5, 10, 25, 50, 75, 100)


def compare(results: Results, curves: pd.DataFrame) -> pd.DataFrame:
    """Return measured and published absolute errors, one row per (method, target, depth).

    Parameters
    ----------
    results : Results
        Of the paper profile.
    curves : DataFrame
        Indexed by depth, with columns such as ``dec_vs_ghat``.

    Returns
    -------
    DataFrame
        Columns method, target, depth, measured (median over seeds), least, greatest, published, deviation (measured over
        published, less one).
    """
    frame = results.frame
    frame = frame[frame.case.str.startswith("published-") & (frame.metric == "absolute_error") & (frame.status == "ok")]
    rows = []
    for (estimator, loss), method in METHODS.items():
        for target in ("ghat", "gstar", "gtilde"):
            for depth in DEPTHS:
                chosen = frame[(frame.estimator == estimator) & (frame.loss == loss)]
                values = chosen[(chosen.target == target) & (chosen.depth == depth)].value
                published = float(curves.loc[depth, f"{method}_vs_{target}"])
                measured = values.median()
                rows.append(
                    (method, target, depth, measured, values.min(), values.max(), published, measured / published - 1)
                )
    columns = ["method", "target", "depth", "measured", "least", "greatest", "published", "deviation"]
    return pd.DataFrame(rows, columns=columns)


def markdown(table: pd.DataFrame) -> str:
    """Return the comparison as a Markdown table."""
    lines = ["| method | target | depth | measured | over seeds | published | deviation |", "|---|---|--:|--:|--:|--:|--:|"]
    for row in table.itertuples():
        lines.append(
            f"| {row.method} | {row.target} | {row.depth} | {row.measured:.2e} | {row.least:.2e} to {row.greatest:.2e} "
            f"| {row.published:.2e} | {row.deviation:+.0%} |"
        )
    return "\n".join(lines)


@click.command()
@click.argument("curves", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--home", type=click.Path(path_type=Path), default=Path(".asv"), show_default=True)
def main(curves: Path, home: Path) -> None:
    """Print measured against published errors, after `pudle run --profile paper --case 'published-*'`."""
    published = pd.read_csv(curves, index_col="depth")
    if missing := [depth for depth in DEPTHS if depth not in published.index]:
        raise InvalidArgument(f"{curves} has no depth {missing[0]}: give the file of published curves")
    click.echo(markdown(compare(load(home, "paper"), published)))


if __name__ == "__main__":
    main()
