"""Figures: looks, data, and files."""

import io
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from support.records.synthetic import (
    CLAIMS,
    CURVES,
    DEPTHS,
    case,
    failure,
    record,
    scores,
    write,
    write_costs,
)

from pudle.bench.cases import PROFILES
from pudle.reports.figures.drawing import draw
from pudle.reports.load import load
from pudle.reports.looks import looks
from pudle.reports.page.data import overview
from pudle.reports.report import Report

NAME = case()["name"]


def test_a_plug_in_never_changes_the_looks_of_the_suites_own_estimators():
    own = {name: claim for name, (claim, _) in CLAIMS.items()}
    before = looks(own)
    plugins = dict.fromkeys([f"plugin{number}" for number in range(40)], "direct")
    after = looks(plugins | own)
    assert {name: after[name] for name in own} == before
    # Nor does the order of the report.
    assert looks(dict(reversed(own.items()))) == before
    assert len({(look.marker, look.dashes) for look in before.values()}) == len(before)
    assert len({look.color for look in before.values()}) == len(before)
    # Those that compute the same differ in their markers.
    windows = {f"truncated(window={window})": "truncated" for window in (1, 2, 5, 10, 20, 50, 100)}
    assert len({look.marker for look in looks(windows).values()}) == len(windows)


def kinds(home):
    return {figure.kind: figure for figure in Report(load(home, "quick")).pictures}


def test_a_heat_map_shows_the_scores_of_two_windows_and_more(tmp_path):
    records = [
        record(case(), f"truncated(window={window})", scores=scores(CURVES["alternating"]))
        for window in (5, 10, 1)
    ]
    kind = "Error over depth and window"
    assert kind not in kinds(write(tmp_path / "one", records[:1]))
    assert kind in kinds(write(tmp_path / "two", records[:2]))
    rows = kinds(write(tmp_path / "three", records))[kind].rows
    assert [*rows["window"].unique()] == [1, 5, 10]
    errors = rows.set_index(["depth", "window"])["relative_error"]
    assert len(errors) == 3 * len(DEPTHS)
    assert errors[100, 10] == pytest.approx(0.5 * 0.955**100, rel=1e-5)


def test_every_figure_is_the_same_svg_pdf_png_and_csv_whenever_it_is_drawn(timed):
    before = plt.get_fignums(), plt.rcParams["svg.fonttype"]
    names = {figure.name: figure for figure in timed.pictures}
    assert {f"error-{NAME}", f"time-{NAME}", f"memory-{NAME}"} <= names.keys()
    for name, figure in names.items():
        files = dict(figure.files(("svg", "csv")))
        assert len(pd.read_csv(io.BytesIO(files[f"{name}.csv"]))) == len(figure.rows)
        root = ElementTree.fromstring(files[f"{name}.svg"])
        (title, *_) = (item.text for item in root.iter() if item.tag.endswith("}title"))
        assert any(estimator in title for estimator in CURVES)
    files, again = (dict(figure.files(("svg", "pdf", "png", "csv"))) for _ in range(2))
    assert files == again and files[f"{name}.pdf"].startswith(b"%PDF")
    assert files[f"{name}.png"].startswith(b"\x89PNG")
    assert (plt.get_fignums(), plt.rcParams["svg.fonttype"]) == before


def test_files_of_figures_are_read_without_markup_collisions_or_unnamed_lines(tmp_path):
    """With the depths of the default profile, on both scales."""
    depths = [*PROFILES["default"].cases[0].depths]
    names = [*CURVES, *(f"truncated(window={window})" for window in (1, 5, 20, 100))]
    curve = scores(lambda depth, _: 1e-9 + depth / 1e14, depths=depths)
    home = write(tmp_path, [record(case(), name, scores=curve) for name in names])
    write_costs(home, [*CURVES], [10.0**number for number in range(8)])
    figures = Report(load(home, "quick")).pictures
    assert {"Error over depth and window", "Error against time"} <= {each.kind for each in figures}
    for figure in figures:
        assert figure.guides["label"].all()
        ((_, svg),) = figure.files(["svg"])
        assert b"mathdefault" not in svg and b"$" not in svg
        canvas = figure.canvas()
        canvas.draw_without_rendering()
        for axis in (axis for at in canvas.axes for axis in (at.xaxis, at.yaxis)):
            texts = [text for text in axis.get_ticklabels() if text.get_text()]
            boxes = [text.get_window_extent() for text in texts]
            assert not any(one.overlaps(two) for one, two in pairwise(boxes))


def test_a_figure_shows_its_data(timed):
    """The median of each curve, and what is near it, as matplotlib holds them."""
    figures = {figure.name: figure for figure in timed.pictures}
    error = figures[f"error-{NAME}"]
    (at,) = draw(error).axes
    curves = [tuple(line.get_ydata()) for line in at.get_lines()]
    assert len(error.lines) == 4 and at.get_yscale() == "log"
    for name, rows in error.lines.items():
        _, *spread = timed.results.curve(NAME, name).spread.T
        assert tuple(spread[0]) in curves
        columns = [f"relative_error{end}" for end in ("", "_low", "_high")]
        np.testing.assert_array_equal(rows[columns].T, spread)


def test_a_figure_says_which_lines_coincide_and_what_is_cut_off(tmp_path):
    """One line on top of another looks like a missing one; a spike squeezes all else."""
    curves = {
        "alternating": lambda depth, rho: 0.5 * rho**depth,
        "backprop": lambda depth, rho: 0.505 * rho**depth,
        "analytic": lambda depth, rho: 1e5 if depth == 1 else 0.2 * rho**depth,
    }
    records = [record(case(), name, scores=scores(curve)) for name, curve in curves.items()]
    figure = kinds(write(tmp_path / "a", records))["Error against depth"]
    coincide = "Against depth the lines of alternating and backprop coincide."
    assert figure.note == f"{coincide} Errors above 10 are cut off."
    (at,) = draw(figure).axes
    assert at.get_ylim()[1] == figure.most[0] == 10
    # Neither holds without the second and the third.
    figure = kinds(write(tmp_path / "b", records[:1]))["Error against depth"]
    assert (figure.note, figure.most) == ("", None) and figure.rows["relative_error"].max() < 1


def test_a_note_is_that_of_the_quantity_and_the_axis(tmp_path):
    """Errors that coincide have memories that do not, and no memory is cut off."""
    curves = {
        "alternating": lambda depth, rho: 1e5 if depth == 1 else 0.5 * rho**depth,
        "backprop": lambda depth, rho: 1e5 if depth == 1 else 0.505 * rho**depth,
        "analytic": lambda depth, rho: 0.2 * rho**depth,
    }
    home = write(tmp_path, [record(case(), name, scores=scores(curves[name])) for name in curves])
    mebibytes = [2.0, 50.0, 3.0, 90.0, 2.0, 50.0]
    write_costs(home, [*curves], [1.0, 2.0, 3.0, 6.0, 2.0, 4.0], [2.0**20 * m for m in mebibytes])
    figures = kinds(home)
    cut = "Errors above 10 are cut off."
    errors = "Against depth the lines of alternating and backprop coincide."
    memories = "Against depth the lines of alternating and analytic coincide."
    notes = {kind: figure.note for kind, figure in figures.items()}
    assert notes == {
        "Error against depth": f"{errors} {cut}",
        "Error against time": cut,
        "Error against memory": cut,
        # It is the square of the error, and differs by more.
        "Direction against depth": "",
        "Memory against depth": memories,
    }
    (at,) = draw(figures["Memory against depth"]).axes
    assert at.get_ylim()[1] > 80


def test_the_matrix_of_times_compares_the_pairs_of_a_problem(tmp_path):
    """As the answers do; a cell without a number says why there is none."""
    solver = case("synthetic-solver-lasso", algorithm="solver")
    records = [
        record(solver, "analytic", differentiable=False, scores=scores(lambda *_: 1e-9)),
        record(case(), "analytic", scores=scores(lambda *_: 1e-9)),
        record(case(), "backprop", scores=scores(lambda *_: 0.5)),
        failure(solver, "backprop", "unsupported", "has no layers to differentiate"),
    ]
    home = write(tmp_path, records)
    names = [solver["name"], NAME]
    write_costs(home, ["analytic"], [1.0, 2.0, 3.0, 6.0], names=names)
    (figure,) = overview(load(home, "quick"))
    cells = figure.rows.set_index(["label", "estimator", "goal"])["text"]
    assert cells[solver["name"], "analytic", "1e-3"] == "1"
    assert cells[NAME, "analytic", "1e-3"] == "3"
    assert cells[NAME, "backprop", "1e-3"] == "not reached"
    assert cells[solver["name"], "backprop", "1e-3"] == "needs layers"
