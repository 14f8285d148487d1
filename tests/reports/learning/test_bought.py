"""What trainings led to, beside the error of their gradients."""

import math

import pytest
from living_page import data, html
from synthetic import CURVES, case, denoising, record, training, write, write_experiments

from pudle.reports.learning.sections import bought, sections
from pudle.reports.load import load
from pudle.reports.report import Report


def test_outcomes_stand_beside_the_error_of_the_gradient_at_the_depth_of_the_training(tmp_path):
    cases = [case(dataset="sparse_gaussian(n_samples=7)"), case("other", dataset="other(n=1)")]
    write(tmp_path, [record(item, name) for item in cases for name in CURVES])
    rates = {"alternating": 0.05, "backprop": 0.1}
    trainings = [training(name, name, rate) for name, rate in rates.items()]
    others = [
        training("ridge", options={"loss": "ridge"}),
        training("unscored", "truncated(window=3)"),
        training("warm", options={"warm_start": True}),
    ]
    write_experiments(tmp_path, [*trainings, *others, denoising("d", "BM3D")])
    results = load(tmp_path, "quick")
    (figure,) = bought(results)
    rows = figure.rows.set_index("method")
    # The training has 25 layers, and 10 is the next smaller depth that was measured.
    error = rows.loc["alternating, lasso loss", "gradient_error"]
    assert error == pytest.approx(0.5 * 0.955**10, rel=1e-3)
    assert rows["relative_error"].to_dict() == pytest.approx(
        {f"{name}, lasso loss": 0.5 * math.exp(-50 * rate) for name, rate in rates.items()},
        rel=1e-4,
    )
    page = html(Report(results))
    (drawn,) = (each for each in data(page)["charts"] if each["host"] == "#bought-figures")
    assert drawn["rows"]["method"] == list(rows.index)
    assert "are those on sparse_gaussian(n_samples=7), " in drawn["note"]


def test_an_error_measured_along_a_training_is_drawn_and_stands_for_a_scored_one(tmp_path):
    def measured(name, error, **options):
        made = training(name, options=options)
        for row in made["rows"]:
            row["gradient_error"] = error / (1 + row["step"]) if row["step"] % 10 == 5 else None
        made["summary"] |= {"gradient_error": error}
        return made

    item = case(dataset="sparse_gaussian(n_samples=7)")
    write(tmp_path, [record(item, name) for name in CURVES])
    trainings = [
        measured("a", 0.3),
        measured("b", 0.03, depth=50),
        measured("c", 0.003, warm_start=True),
        training("d", "alternating"),
    ]
    write_experiments(tmp_path, trainings)
    results = load(tmp_path, "quick")
    (figure,) = bought(results)
    errors = figure.rows["gradient_error"]
    assert {0.3, 0.03, 0.003} < {*errors} and len(errors) == 4
    assert (
        "sparse_gaussian(n_samples=7)" in figure.note and "the trainings' own steps" in figure.note
    )
    (block,) = (each for section in sections(results) for each in section.blocks)
    drawn = {each.name: each for each in block.charts if each.y[0].column == "gradient_error"}
    assert len(drawn) == 3 and len(drawn) == len(block.charts) / 2
    (deep,) = (each for name, each in drawn.items() if name.endswith("-50 layers"))
    assert deep.rows["step"].tolist() == [5, 15, 25, 35, 45]
    assert deep.rows["gradient_error"].tolist() == [0.03 / (1 + step) for step in deep.rows["step"]]
    names = {name for name, _ in Report(results, linked=("svg",)).figure_files()}
    assert f"{figure.name}.svg" in names
