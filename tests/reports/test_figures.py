"""Figures: looks, data, and files."""

from __future__ import annotations

import io
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

from pudle.reports import figures
from pudle.reports.command import report_command
from pudle.reports.load import load
from pudle.reports.looks import looks
from pudle.reports.page import Report


def test_a_plug_in_never_changes_the_looks_of_the_suites_own_estimators():
    own = {name: claim for name, (claim, _) in CLAIMS.items()}
    before = looks(own)
    names = [f"plugin{number}" for number in range(40)]
    after = looks(dict.fromkeys(names, "direct") | own)
    assert {name: after[name] for name in own} == before
    # Nor does the order of the report, or what else is in it.
    assert looks({"backprop": "unrolled"})["backprop"] == before["backprop"]
    assert looks(dict(reversed(own.items()))) == before
    assert len({(look.marker, look.line) for look in before.values()}) == len(before)
    assert len({look.color for look in before.values()}) == len(before)


def test_estimators_that_compute_the_same_differ_in_their_markers():
    windows = {f"truncated(window={window})": "truncated" for window in (1, 2, 5, 10, 20, 50, 100)}
    assert len({look.marker for look in looks(windows).values()}) == len(windows)


def test_figures_leave_nothing_open(four):
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), plt.rcParams["svg.fonttype"]
    report = Report.of(load(four, "quick"))
    assert len(figures.draw(report.results, report.rates)) == 2
    assert (plt.get_fignums(), plt.rcParams["svg.fonttype"]) == before


def kinds(home):
    report = Report.of(load(home, "quick"))
    return {picture.kind: picture for picture in report.pictures}


def test_heat_map_needs_three_windows_and_describes_them(tmp_path):
    names = [f"truncated(window={window})" for window in (1, 5, 10)]
    two = write(tmp_path / "two", [record(case(), name) for name in names[:2]])
    assert "Error over depth and window" not in kinds(two)
    records = [record(case(), name, scores=scores(lambda depth, rho, k=place: 10.0**-k * rho**depth))
               for place, name in enumerate(names)]  # fmt: skip
    picture = kinds(write(tmp_path / "three", records))["Error over depth and window"]
    data = pd.read_csv(io.StringIO(picture.csv))
    assert len(data) == 3 * len(DEPTHS)
    row = data[(data["depth"] == 100) & (data["window"] == 10)]
    assert row["relative_error"].item() == pytest.approx(1e-2 * 0.955**100, rel=1e-5)
    assert "window 10 " in picture.alt


def test_stored_surface_is_drawn_where_it_has_more_windows(four):
    rows = [{"depth": depth, "window": window, "relative_error": 1 / (depth * window), "status": "ok"}
            for depth in (10, 20) for window in (1, 2, 4, 8)]  # fmt: skip
    rows.append({"depth": 30, "window": 1, "relative_error": None, "status": "diverged"})
    write_artifact(four, "window_surface", rows)
    data = pd.read_csv(io.StringIO(kinds(four)["Error over depth and window"].csv))
    assert sorted(data["window"].unique()) == [1, 2, 4, 8] and sorted(data["depth"].unique()) == [10, 20]


def test_burn_in_is_drawn_where_it_is_stored(four):
    assert "Burn-in" not in kinds(four)
    for seed in (0, 1):
        rows = [{"depth": depth, "relative_error": error * (1 + seed / 10), "worst_sample": 9.0}
                for depth, error in ((1, 0.9), (5, 4.0), (20, 1.5), (50, 0.5), (100, 0.01))]  # fmt: skip
        write_artifact(four, "jacobian_error", rows, name=str(seed), seed=seed)
    write_artifact(four, "of a later version", [{"anything": 1}], name="later")
    write_artifact(four, "jacobian_error", [], name="elsewhere", case="another")
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
        assert root.tag.endswith("svg") and root[0].text and root[1].attrib["fill"] == "white"
        assert len(pd.read_csv(folder / f"{name}.csv"))
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_figures_drawn_in_several_processes_are_the_same(tmp_path, monkeypatch):
    cases = [case(), case("synthetic-ista-reconstruction", loss="reconstruction")]
    home = write(tmp_path, [record(item, name) for item in cases for name in CURVES])

    def drawn(processes):
        report = Report.of(load(home, "quick"), ("svg", "png", "csv"), processes)
        return [picture.svg for picture in report.pictures], list(report.figure_files())

    alone = drawn(1)
    monkeypatch.setattr(figures, "CASES_PER_PROCESS", 1)
    assert drawn(2) == alone
