"""Figures: looks, data, and files."""

from __future__ import annotations

import io
import subprocess
import sys
from xml.etree import ElementTree

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


def test_figures_leave_nothing_open(four):
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), plt.rcParams["svg.fonttype"]
    report = Report.of(load(four, "quick"))
    drawn = [picture.draw() for picture in report.pictures]
    assert len(drawn) == 3
    assert (plt.get_fignums(), plt.rcParams["svg.fonttype"]) == before


def kinds(home):
    report = Report.of(load(home, "quick"))
    return {picture.kind: picture for picture in report.pictures}


def test_heat_map_needs_three_windows_and_describes_them(tmp_path):
    names = [f"truncated(window={window})" for window in (1, 5, 10)]
    two = write(tmp_path / "two", [record(case(), name) for name in names[:2]])
    assert "Error over depth and window" not in kinds(two)
    records = [
        record(case(), name, scores=scores(lambda depth, rho, k=place: 10.0**-k * rho**depth))
        for place, name in enumerate(names)
    ]
    picture = kinds(write(tmp_path / "three", records))["Error over depth and window"]
    data = picture.data
    assert len(data) == 3 * len(DEPTHS)
    row = data[(data["depth"] == 100) & (data["window"] == 10)]
    assert row["relative_error"].item() == pytest.approx(1e-2 * 0.955**100, rel=1e-5)
    assert "window 10 " in picture.alt


def test_stored_surface_is_drawn_where_it_has_more_windows(four):
    rows = [
        {"depth": depth, "window": window, "relative_error": 1 / (depth * window), "status": "ok"}
        for depth in (10, 20)
        for window in (1, 2, 4, 8)
    ]
    rows.append({"depth": 30, "window": 1, "relative_error": None, "status": "diverged"})
    write_artifact(four, "window_surface", rows)
    data = kinds(four)["Error over depth and window"].data
    assert sorted(data["window"].unique()) == [1, 2, 4, 8] and sorted(data["depth"].unique()) == [
        10,
        20,
    ]


def test_burn_in_is_drawn_where_it_is_stored(four):
    assert "Burn-in" not in kinds(four)
    for seed in (0, 1):
        rows = [
            {"depth": depth, "relative_error": error * (1 + seed / 10), "worst_sample": 9.0}
            for depth, error in ((1, 0.9), (5, 4.0), (20, 1.5), (50, 0.5), (100, 0.01))
        ]
        write_artifact(four, "jacobian_error", rows, seed=seed)
    write_artifact(four, "of a later version", [{"anything": 1}])
    write_artifact(four, "jacobian_error", [], case="another")
    picture = kinds(four)["Burn-in"]
    assert "peak 4.2 at depth 5, below one from depth 50 on" in picture.alt


def test_every_figure_comes_as_svg_pdf_png_and_csv(timed_home, tmp_path):
    arguments = ["--home", str(timed_home), "--out", str(tmp_path), "--format", "svg,pdf,png,csv"]
    done = CliRunner().invoke(report_command, arguments)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "report_figures"
    names = {path.stem for path in folder.iterdir()}
    assert {"overview", "error-synthetic-ista-lasso", "rates"} <= names
    for name in names:
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        root = ElementTree.fromstring((folder / f"{name}.svg").read_text())
        titles = [item.text for item in root.iter() if item.tag.endswith("}title")]
        assert root.tag.endswith("svg") and any(estimator in titles[0] for estimator in CURVES)
        assert len(pd.read_csv(folder / f"{name}.csv"))
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_shows_its_data(timed):
    """The median of each curve, and what is near it, as matplotlib holds them."""
    (picture,) = (picture for picture in timed.pictures if picture.kind == "Error against depth")
    (at,) = picture.draw().axes
    curves = {tuple(round(value, 9) for value in line.get_ydata()) for line in at.get_lines()}
    for _, rows in picture.data.groupby("estimator"):
        assert tuple(round(value, 9) for value in rows["median"]) in curves
    assert at.get_yscale() == "log" and "certified bound 1.0e-12" in {
        label.get_text() for label in at.texts
    }


def test_rates_are_drawn_where_they_are(timed):
    (picture,) = (picture for picture in timed.pictures if picture.name == "rates")
    (at,) = picture.draw().axes
    drawn = {
        point
        for line in at.get_lines()
        if line.get_label() in CURVES
        for point in zip(*line.get_data(), strict=True)
    }
    names = ["predicted_lost_per_layer_percent", "lost_per_layer_percent"]
    assert drawn == set(picture.data[names].itertuples(index=False, name=None)) and len(drawn) > 1


def test_the_same_figure_is_the_same_file(timed):
    files = [dict(timed.pictures[0].files(("svg", "pdf", "png", "csv"))) for _ in range(2)]
    assert files[0] == files[1] and len(files[0]) == 4
    assert pd.read_csv(io.BytesIO(files[0]["error-synthetic-ista-lasso.csv"])).shape == (
        4 * len(DEPTHS),
        5,
    )


def test_a_page_needs_no_plotting_library(timed_home):
    code = (
        "import sys; from pathlib import Path; from pudle.reports.load import load\nfrom"
        " pudle.reports.page.page import Page; from pudle.reports.report import Report\nreport ="
        f" Report.of(load(Path({str(timed_home)!r}), 'quick')); page = Page([report],"
        " ['quick']).html()\nprint(len(page) > 1000, sorted({'matplotlib', 'seaborn'} &"
        " set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"
