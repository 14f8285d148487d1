"""Figures: looks, data, and files."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic import (
    CLAIMS,
    CURVES,
    DEPTHS,
    case,
    record,
    scores,
    write,
    write_artifact,
)

from pudle.reports.command import report_command
from pudle.reports.figures.drawing import draw
from pudle.reports.load import load
from pudle.reports.looks import looks
from pudle.reports.report import Report


def test_a_plug_in_never_changes_the_looks_of_the_suites_own_estimators():
    own = {name: claim for name, (claim, _) in CLAIMS.items()}
    before = looks(own)
    names = [f"plugin{number}" for number in range(40)]
    after = looks(dict.fromkeys(names, "direct") | own)
    assert {name: after[name] for name in own} == before
    # Nor does the order of the report, or what else is in it.
    assert looks({"backprop": "unrolled"})["backprop"] == before["backprop"]
    assert looks(dict(reversed(own.items()))) == before
    assert len({(look.marker, look.dashes) for look in before.values()}) == len(before)
    assert len({look.color for look in before.values()}) == len(before)


def test_estimators_that_compute_the_same_differ_in_their_markers():
    windows = {f"truncated(window={window})": "truncated" for window in (1, 2, 5, 10, 20, 50, 100)}
    assert len({look.marker for look in looks(windows).values()}) == len(windows)


def kinds(home):
    return {figure.kind: figure for figure in Report.of(load(home, "quick")).pictures}


def test_figures_leave_nothing_open(four):
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), plt.rcParams["svg.fonttype"]
    for figure in kinds(four).values():
        draw(figure)
    assert (plt.get_fignums(), plt.rcParams["svg.fonttype"]) == before


def test_heat_map_needs_three_windows_and_describes_them(tmp_path):
    names = [f"truncated(window={window})" for window in (1, 5, 10)]
    two = write(tmp_path / "two", [record(case(), name) for name in names[:2]])
    assert "Error over depth and window" not in kinds(two)
    records = [
        record(case(), name, scores=scores(lambda depth, rho, k=place: 10.0**-k * rho**depth))
        for place, name in enumerate(names)
    ]
    figure = kinds(write(tmp_path / "three", records))["Error over depth and window"]
    rows = figure.rows
    assert len(rows) == 3 * len(DEPTHS)
    row = rows[(rows["depth"] == 100) & (rows["window"] == 10)]
    assert row["relative_error"].item() == pytest.approx(1e-2 * 0.955**100, rel=1e-5)
    assert "window 10 " in figure.alt


def test_stored_surface_is_drawn_where_it_has_more_windows(four):
    rows = [
        {"depth": depth, "window": window, "relative_error": 1 / (depth * window), "status": "ok"}
        for depth in (10, 20)
        for window in (1, 2, 4, 8)
    ]
    rows.append({"depth": 30, "window": 1, "relative_error": None, "status": "diverged"})
    write_artifact(four, "window_surface", rows)
    shown = kinds(four)["Error over depth and window"].rows
    assert sorted(shown["window"].unique()) == [1, 2, 4, 8]
    assert sorted(shown["depth"].unique()) == [10, 20]


def test_burn_in_is_drawn_where_it_is_stored(four):
    assert "Burn-in" not in kinds(four)
    rows = [
        {"depth": depth, "relative_error": error, "worst_sample": 9.0}
        for depth, error in ((1, 0.9), (5, 4.2), (20, 1.5), (50, 0.5), (100, 0.01))
    ]
    write_artifact(four, "jacobian_error", rows)
    write_artifact(four, "of a later version", [{"anything": 1}])
    write_artifact(four, "jacobian_error", [], case="another")
    assert "peak 4.2 at depth 5." in kinds(four)["Burn-in"].alt


def test_every_figure_comes_as_svg_pdf_png_and_csv(timed_home, tmp_path):
    arguments = ["--home", str(timed_home), "--out", str(tmp_path), "--format", "svg,pdf,png,csv"]
    done = CliRunner().invoke(report_command, arguments)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "report_figures"
    names = {path.stem for path in folder.iterdir()}
    assert {"overview", "error-synthetic-ista-lasso", "time-synthetic-ista-lasso", "rates"} <= names
    for name in names:
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        root = ElementTree.fromstring((folder / f"{name}.svg").read_text())
        titles = [item.text for item in root.iter() if item.tag.endswith("}title")]
        assert root.tag.endswith("svg") and any(estimator in titles[0] for estimator in CURVES)
        assert len(pd.read_csv(folder / f"{name}.csv"))
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_shows_its_data(timed):
    """The median of each curve, and what is near it, as matplotlib holds them."""
    figures = {figure.name: figure for figure in timed.pictures}
    error = figures["error-synthetic-ista-lasso"]
    (at,) = draw(error).axes
    curves = [tuple(line.get_ydata()) for line in at.get_lines()]
    assert len(error.lines) == 4
    for rows in error.lines.values():
        assert tuple(rows["relative_error"]) in curves
        errors = timed.results.curve("synthetic-ista-lasso", rows["estimator"].iloc[0]).values
        assert rows["relative_error"].tolist() == np.median(errors, axis=1).tolist()
        assert rows["relative_error_high"].tolist() == errors.max(axis=1).tolist()
    assert at.get_yscale() == "log"
    assert "certified bound 1.0e-12" in {label.get_text() for label in at.texts}
    (at,) = draw(figures["rates"]).axes
    drawn = {point for line in at.get_lines() for point in zip(*line.get_data(), strict=True)}
    points = figures["rates"].rows[["predicted", "fitted"]].itertuples(index=False, name=None)
    assert set(points) <= drawn


def test_the_front_joins_what_nothing_beats(timed):
    figures = {figure.name: figure for figure in timed.pictures}
    view = figures["time-synthetic-ista-lasso"]
    for front in view.guides.itertuples():
        assert not ((view.rows["ms"] < front.x) & (view.rows["relative_error"] < front.y)).any()
    assert view.guides["y"].min() == view.rows["relative_error"].min()


def test_the_same_figure_is_the_same_file(timed):
    files = [dict(timed.pictures[0].files(("svg", "pdf", "png", "csv"))) for _ in range(2)]
    assert files[0] == files[1] and len(files[0]) == 4
    data = pd.read_csv(io.BytesIO(files[0]["error-synthetic-ista-lasso.csv"]))
    assert len(data) == 4 * len(DEPTHS)
