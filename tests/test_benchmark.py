"""`pudle.benchmark`: one store with the command line, objects as well as specs, and results that
show themselves.
"""

import dataclasses
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from support.problems.small_problems import TINY
from support.processes.commands import call

import pudle
from pudle.errors import InvalidArgument
from pudle.estimators.alternating import Alternating
from pudle.reports.load import COLUMNS, load

DEPTHS = (5, 10)


def measured(home, problems=TINY.dataset, estimators=("alternating", "backprop"), **options):
    defaults = {"depths": DEPTHS, "seeds": 2, "losses": ("lasso",), "costs": False}
    options = {"home": home, "progress": False} | defaults | options
    return pudle.benchmark(problems, "ista", list(estimators), **options)


@dataclass(frozen=True)
class Halved(Alternating):
    """An estimator of this file alone, half the direct gradient."""

    name = "halved"

    def sweep(self, problem, algorithm, depths):
        for estimate in super().sweep(problem, algorithm, depths):
            yield dataclasses.replace(estimate, gradient=estimate.gradient / 2)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("home"), costs=True)


def test_the_table_is_that_of_reports_and_holds_scores_made_by_hand(results):
    table = results.table
    assert {name: str(kind) for name, kind in table.dtypes.items()} == COLUMNS
    problem = dataclasses.replace(pudle.make_dataset(TINY.dataset), seed=1).problem("lasso")
    estimate = pudle.make_estimator("backprop").estimate(problem, pudle.Ista(), 10)
    by_hand = pudle.score(estimate, pudle.reference(problem))
    cell = "estimator == 'backprop' and depth == 10 and seed == 1 and metric == 'relative_error'"
    (error,) = table.query(cell)["value"]
    assert error == pytest.approx(by_hand.relative_error, rel=1e-12)


def test_results_show_themselves(results, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    assert "Rests on 2 estimators and 1 case of 2 seeds. Kept in /" in repr(results)
    (answer,) = results.answers(error=10.0).to_dict("records")
    assert answer["reached"]
    assert "<table" in results._repr_html_() and "backprop" in results._repr_html_()
    (axes,) = results.plot()
    assert len(axes.get_lines()) >= 2 and axes.get_yscale() == "log"
    page = results.report(tmp_path / "page.html")
    assert page.read_text().lstrip().startswith("<!") and "backprop" in page.read_text()
    with pytest.raises(InvalidArgument, match="metric='speed' was not measured: choose from "):
        results.plot("speed")


def test_a_problem_is_measured_in_memory_as_its_dataset_would_be(tmp_path):
    problem = pudle.make_dataset(TINY.dataset).problem("lasso")
    from_problem = measured(tmp_path / "none", {"mine": problem})
    from_spec = measured(tmp_path, seeds=1)
    keys = ["estimator", "depth", "metric", "value"]
    pd.testing.assert_frame_equal(from_problem.table[keys], from_spec.table[keys])
    assert from_problem.folder is None and set(from_problem.table["case"]) == {"mine-ista-lasso"}
    assert from_spec.folder and not (tmp_path / "none").exists()


def halving():
    zero = torch.zeros(1, 3, dtype=torch.float64)
    return pudle.FixedPoint(
        zero[0] + 1, lambda z, theta: z / 2 + theta, lambda z, theta: z.sum(), zero
    )


def test_any_iteration_is_a_problem_and_its_errors_are_those_of_the_closed_form(tmp_path):
    """For ``z = z/2 + theta`` and the loss sum(z), T layers miss 2^-T of the gradient."""
    options = {"depths": (3, 5), "costs": False, "home": tmp_path, "progress": False}
    results = pudle.benchmark(halving(), pudle.Iteration(), "backprop", **options)
    errors = results.table[results.table.metric == "relative_error"].set_index("depth")["value"]
    assert errors.to_dict() == {3: pytest.approx(2**-3), 5: pytest.approx(2**-5)}
    assert set(results.table["target"]) == {"limit"}


def test_a_loss_that_no_dataset_of_the_profile_has_is_measured(tmp_path):
    results = measured(tmp_path, "ridge(n_samples=3)", ["backprop"], losses=("linear",))
    assert set(results.table["status"]) == {"ok"}


def test_what_has_no_number_says_why(tmp_path):
    results = measured(tmp_path, {"mine": halving()}, losses=())
    expected = (
        "alternating on mine-ista-own, backprop on mine-ista-own: unsupported: a proximal gradient"
    )
    assert expected in repr(results) and expected in results._repr_html_()


def test_a_class_of_a_notebook_is_measured_in_memory_only(tmp_path, monkeypatch):
    monkeypatch.setattr(Halved, "__module__", "__main__")
    results = measured(tmp_path, estimators=["backprop", Halved()])
    assert results.folder is None and not list(tmp_path.iterdir())
    assert "Measured in memory only: no spec makes halved." in repr(results)
    chosen = (results.table.estimator == "halved") & (results.table.metric == "relative_error")
    # Half of nearly the exact gradient is nearly half of it away.
    assert results.table.loc[chosen, "value"].between(0.4, 0.7).all()


@dataclass(frozen=True)
class Short(pudle.Ista):
    """An algorithm of this file alone, with half of ISTA's step."""

    name = "short"

    def step_size(self, problem):
        return super().step_size(problem) / 2


def test_times_and_memory_of_objects_that_no_spec_makes_are_measured_too(tmp_path):
    problem = pudle.make_dataset(TINY.dataset).problem("lasso")
    options = {"depths": DEPTHS[:1], "home": tmp_path, "progress": False}
    results = pudle.benchmark({"mine": problem}, Short(), [Halved()], **options)
    assert set(results.table["metric"]) >= {"relative_error", "seconds", "memory_bytes"}
    assert set(results.table["status"]) == {"ok"} and not list(tmp_path.iterdir())


def test_the_command_line_finds_what_a_notebook_measured(tmp_path, monkeypatch):
    results = measured(tmp_path, estimators=["backprop"], seeds=2)
    monkeypatch.setattr(pudle.make_estimator("backprop").__class__, "sweep", None)
    options = "--algorithm ista --loss lasso --seeds 2 --estimator backprop --only --scores-only"
    depths = [f"--depth={depth}" for depth in DEPTHS]
    done = call("run", "--dataset", TINY.dataset, *options.split(), "--home", tmp_path, *depths)
    assert done.returncode == 0 and "0 of 1 scores computed now" in done.stdout
    pd.testing.assert_frame_equal(load(tmp_path, "quick").frame, results.table)


def test_an_estimator_that_takes_too_long_ends_at_its_next_depth(tmp_path):
    results = measured(tmp_path, timeout=1e-9)
    assert set(results.table["status"]) == {"timeout"}
    assert "give a larger timeout" in results.table["reason"].iloc[0]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"problems": 3}, "problems: 3 is neither a spec nor a Dataset"),
        ({"depths": 5}, "depths=5 is no sequence: give one, such as"),
        ({"losses": ("linear",)}, "the datasets here have lasso, reconstruction"),
        ({"problems": [TINY.dataset, TINY.dataset]}, "problems: two have one name"),
        (
            {"estimators": [Halved(), type("Other", (Halved,), {})()]},
            "estimators: two different things are called halved: give one of them another name",
        ),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(options, text, tmp_path):
    with pytest.raises(InvalidArgument, match=text):
        measured(tmp_path, **options)
    assert not list(tmp_path.iterdir())
