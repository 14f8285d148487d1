"""Tables, answers and budgets, on results whose numbers are known because the tests make them."""

import dataclasses
import io
import re
from types import SimpleNamespace

import pandas as pd
import pytest
from support.page.living_page import data, html
from support.page.parsed_page import ParsedPage
from support.records.stored_experiments import framed, reported
from support.records.synthetic import (
    CURVES,
    case,
    failed_scores,
    failure,
    record,
    references,
    scores,
    training,
    write,
    write_costs,
    write_experiments,
    write_run,
)

from pudle import text
from pudle.measuring import check_results
from pudle.measuring.case import Case
from pudle.references.records import TARGETS
from pudle.reports import tables
from pudle.reports.answers import answers, budgets
from pudle.reports.cells import Cell
from pudle.reports.error_tables import error_texts
from pudle.reports.figures import cases
from pudle.reports.load import Results, load
from pudle.reports.page.data import overview
from pudle.reports.report import READING, Report


def test_summary_counts_time_memory_and_spread(timed):
    rows = {row.estimator: row for row in timed.summary}
    ratios = [rows[name].relative_seconds[0].value for name in ("backprop", "alternating")]
    assert ratios == pytest.approx([3.0, 1.0])
    assert rows["backprop"].measured.memory.last == (200, 2.0**21)
    errors = tuple(0.5 * rho**300 for rho in (0.955, 0.95, 0.96))
    assert rows["alternating"].deepest.error == errors
    assert rows["analytic"].deepest.at_floor == 2


def test_a_ratio_of_times_names_its_depth(timed):
    """Times end at depth 200, and errors at 300."""
    shown = tables.summary_table(timed.summary).columns["time / alternating"]
    assert {cell.details for cell in shown} == {("at depth 200",)}


def test_failed_estimator_is_never_shown_as_a_number(tmp_path):
    why = "3 of 9 entries are NaN"
    records = [
        record(case(), "alternating"),
        failure(case(), "backprop", "diverged", why),
        failure(case(), "analytic", "timeout", "not finished after 1 s"),
    ]
    report = reported(tmp_path, records)
    assert report.broken == ["analytic"]
    table = framed(tables.summary_table(report.summary)).set_index("estimator")
    for name, status in (("backprop", "diverged"), ("analytic", "timeout")):
        assert table.loc[name, "status"] == status
        assert not table.loc[name].drop("status").str.contains(r"\d", regex=True).any()
    problems = framed(report.problems).set_index("estimator")
    assert problems.loc["backprop", "reason"] == why
    assert problems.loc["analytic", "depths"] == "1 ... 300 (8)"
    for picture in report.pictures:
        assert set(picture.rows["estimator"]) == {"alternating"}


def test_a_record_without_scores_failed_at_all_depths(tmp_path):
    silent = record(case(), "analytic", scores=[], references=[])
    report = reported(tmp_path, [record(case(), "alternating"), silent])
    (problem,) = report.problems.records
    assert (problem["depths"], problem["seeds"]) == ("all", "all")


def test_a_plugin_says_whether_it_was_checked_and_one_that_failed_is_no_answer(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = "passed", "new", "quick"
    curves = dict.fromkeys(names, CURVES["analytic"]) | {"failed": lambda *_: 1e-4}
    plugins = [record(case(), name, scores=scores(curve)) for name, curve in curves.items()]
    home = write(tmp_path, [record(case(), "alternating"), *plugins])
    stored = {"failed": ("a", "not checked"), "passed": ("b", "not checked")}
    stored |= {"new": ("c", "not checked"), "quick": ("d", "not checked")}
    write_run(home / "quick", plugins=stored)
    assert Report(load(home, "quick")).answers[0].best.estimator == "failed"
    check_results.remember(
        {"a": ["claim[ridge-linear-ista]"], "b": [], check_results.QUICKLY + "d": []}
    )
    report = Report(load(home, "quick"))
    words = [
        "",
        check_results.CHECKED,
        check_results.NOT_CHECKED,
        check_results.QUICKLY,
        check_results.FAILED,
    ]
    assert [row.check for row in report.summary] == words
    assert report.answers[0].best.estimator == "passed"
    assert "No answer, because `pudle check` failed: `failed`." in report.notes
    # Nothing was timed, and two reach the error at the same depth.
    assert "with the least depth, because nothing was timed" in report.markdown()
    why = report.answers[0].cells["why"].text
    assert "Least depth to an error of 1e-3, a tie with `new` and `quick`; not timed there." in why


def test_a_plugin_that_gains_nothing_from_kernels_is_compared_on_the_torch_path(tmp_path):
    names = ("alternating", "mine", "fast")
    home = write(tmp_path, [record(case(), name) for name in names])
    write_costs(home, names, [1.0, 2.0] * 3, torch=[4.0, 8.0, 1.0, 2.02, 3.0, 6.0])
    write_run(home / "quick", plugins={name: (name, "checked") for name in names[1:]})
    report = Report(load(home, "quick"))
    assert [row.gain for row in report.summary] == pytest.approx([4.0, 1.01, 3.0])
    (note,) = (note for note in report.notes if "torch" in note)
    assert note.startswith("On torch's layers: `mine`; compare with the times of the others")
    columns = tables.summary_table(report.summary).columns
    assert [str(cell) for cell in columns["gain by kernels"]] == ["4.00", "1.01", "3.00"]


@pytest.mark.parametrize("column", tables.COLUMNS, ids=lambda column: column.label)
def test_every_column_of_the_summary_is_explained(column):
    """Under "How to read this page", by a term that its label begins with."""
    label = column.label.format(error="1e-3").lower()
    terms = [term.lower() for term, _ in READING]
    assert any(label.startswith(term) for term in terms), (label, terms)


def test_only_columns_that_are_shown_are_explained(tmp_path):
    report = reported(tmp_path, [record(case(), "alternating")])
    terms = [term for term, _ in report.reading]
    assert terms == ["Error", "Depth to 1e-3", "Status"]
    assert "Gain by kernels" not in report.markdown()


def test_what_a_solver_leaves_unsolved_at_the_deepest_depth_is_a_note(tmp_path):
    rows = scores(CURVES["analytic"])
    for row in rows:
        row["unfinished"] = {300: row["seed"], 250: 9}.get(row["depth"], 10)
    solved = [record(case(name="solved"), "analytic", scores=scores(CURVES["analytic"]))]
    report = reported(tmp_path, [record(case(), "analytic", scores=rows), *solved])
    (note,) = (note for note in report.notes if "not solved" in note)
    assert note.startswith("synthetic-ista-lasso: after 300 steps up to 2 samples of a seed")


def test_uncertified_references_are_counted_and_nothing_is_scored_against_them(tmp_path):
    status = {"status": "uncertified", "reason": "4 of 10 samples are not certified"}
    certificates = references(**status, uncertified=4, bound=None)
    rows = failed_scores(*status.values())
    bad = record(case(), "backprop", scores=rows, references=certificates, **status)
    report = reported(tmp_path, [bad])
    assert not report.results.curve(case()["name"], "backprop").by_seed
    row = framed(tables.references_table(report.results)).iloc[0]
    shown = [row[name] for name in ("status", "uncertified samples", "all-zero codes")]
    assert shown == ["uncertified", "12 of 30", "12%"]
    assert tables.broken(report.results) == [] and "Nothing was scored" in report.markdown()
    ((_, drawn),) = cases.overview(report.results, report.summary).files(["svg"])
    assert b"<svg" in drawn


@pytest.mark.parametrize(
    ("bounds", "status", "shown"),
    [
        ([1.3e-2] * 3, "certified", "1"),
        ([3e-12, 1e-14, 1e-14], "certified", "11"),
        ([0.5] * 3, "certified", "0"),
        ([7.0] * 3, "certified", "0"),
        ([0.0] * 3, "certified", "15"),
        ([1e-10] * 3, "limit", None),
    ],
)
def test_certificates_show_the_digits_that_are_certain_in_the_worst_seed(
    tmp_path, bounds, status, shown
):
    certificates = references(status=status)
    for certificate, bound in zip(certificates, bounds, strict=True):
        certificate["bound"] = bound
    report = reported(tmp_path, [record(case(), "backprop", references=certificates)])
    table = framed(tables.references_table(report.results))
    assert table.iloc[0].get("certain digits") == shown


def test_a_modulus_that_nothing_was_compared_with_is_said_to_be_unchecked(tmp_path):
    certificates = references(modulus=0.4)
    certificates[0]["smallest_eigenvalue"] = None
    report = reported(tmp_path, [record(case(), "backprop", references=certificates)])
    row = framed(tables.references_table(report.results)).iloc[0]
    assert row["modulus, claimed"] == f"0.4 (not checked in 1 of {len(certificates)})"
    certificates = references(modulus=0.4)
    report = reported(tmp_path / "all", [record(case(), "backprop", references=certificates)])
    assert framed(tables.references_table(report.results)).iloc[0]["modulus, claimed"] == "0.4"


def test_further_targets_have_a_table_of_their_own(tmp_path):
    both = scores(CURVES["backprop"], targets=("ghat", "gstar"))
    for row in both:
        row["relative_error"] *= 2 if row["target"] == "gstar" else 1
    two = case("two", targets=["ghat", "gstar"])
    second = record(two, "backprop", scores=both, references=references(target="ghat"))
    results = reported(tmp_path, [record(case(), "backprop"), second]).results
    texts = error_texts(Report(results), [100])
    rows = pd.read_csv(io.StringIO(texts["csv"]()), index_col=["case", "target"])
    assert rows.loc[("two", "gstar"), "median"] == 2 * rows.loc[("two", "ghat"), "median"]
    for ending, name in (("markdown", "gstar"), ("latex", "$g^*$")):
        words = f"lasso codes under the generating dictionary ({name}), 3 seeds"
        assert texts[ending]().count(words) == 1
    assert Report(results).markdown().count("Errors against its other targets") == 1


@pytest.mark.parametrize("target", TARGETS)
def test_a_caption_says_what_errors_are_measured_against(tmp_path, target):
    """In words that an article can have: to its readers the name alone means nothing."""
    errors = scores(CURVES["backprop"], targets=[target])
    the_case = case(targets=[target], loss="reconstruction")
    row = record(the_case, "backprop", scores=errors, references=references(target=target))
    report = reported(tmp_path, [row])
    symbol = {"ghat": r"$\hat g$", "gstar": "$g^*$", "gtilde": r"$\tilde g$"}.get(target)
    in_latex = f" ({symbol})" if symbol else ""
    in_markdown = f" ({target})" if symbol else ""
    against = re.compile(r"reconstruction loss, against the [^,(]*gradient[^,(]*?( \([^,]+\))?, 3")
    for written in (report.latex(), error_texts(report, [100])["latex"]()):
        assert against.findall(written) == [in_latex]
    assert against.findall(report.markdown()) == [in_markdown]


# -- answers and budgets


def test_budgets_name_the_cheapest_and_the_most_accurate_within(four):
    memory = [2**21, 2**21, 2**24, 2**25]
    write_costs(four, ["alternating", "backprop"], [1.0, 2.0, 10.0, 30.0], memory=memory)
    cells = framed(budgets(load(four, "quick"))).iloc[0, 1:]
    # Alternating reaches 1e-3 within 152 layers on every seed, and so at the measured depth of 200.
    assert cells["error 1e-3"] == "alternating, 2 s, ≤ 200 layers"
    # One of its seeds does not get to 1e-6; the other does at 250, beyond the timed depths.
    assert cells["error 1e-6"] == "backprop, 40 s*, ≤ 250 layers"
    error = f"error {0.5 * 0.96**200:.1e}".replace("e-0", "e-")
    assert cells["within 2 s"] == f"alternating, {error}, 200 layers, 2 s" and len(cells) == 3 + 4


def test_budgets_mark_what_is_estimated_to_be_within_them(four):
    """The error is measured at 150 layers, time and memory are not: they lie between others."""
    memory = [2**20, 2**23, 2**26, 2**26]
    write_costs(four, ["alternating", "backprop"], [1.0, 3.0, 20.0, 30.0], memory=memory)
    cells = framed(budgets(load(four, "quick"))).iloc[0, 1:]
    spent = {name: cell.split(", ")[2:] for name, cell in cells.items() if "within" in name}
    assert spent["within 2 s"] == ["150 layers", "2 s*"]
    assert spent["within 5 MiB"] == ["150 layers", "4.5 MiB*"]
    assert spent["within 20 s"] == ["200 layers", "3 s"]


def test_estimates_are_explained_where_a_table_marks_some(four):
    """Here one budget needs more layers than were timed, and no answer does."""
    names = ["alternating", "backprop"]
    write_costs(four, names, [1.0, 2.0, 10.0, 30.0], memory=[2**21, 2**21, 2**24, 2**25])
    report = Report(load(four, "quick"))
    answered, _, by_budget = report.markdown().partition("## By budget")
    starred = text.STARRED.capitalize().replace("*", "\\*")
    assert "*: A time or memory that is estimated" in report.markdown()
    assert " s*" in str(budgets(report.results).columns) and " s*" not in str(report.answers)
    assert starred not in answered and starred in by_budget
    assert text.STARRED.capitalize() in html(report)
    exact = {name: scores(lambda *_: 1e-9, depths=[100, 200]) for name in names}
    records = [record(case(depths=[100, 200]), name, scores=exact[name]) for name in names]
    home = write(four / "exact", records)
    write_costs(home, names, [1.0, 2.0, 10.0, 30.0], memory=[2**21, 2**21, 2**24, 2**25])
    report = Report(load(home, "quick"))
    for shown in (report.markdown(), html(report)):
        assert "estimated from the costs" not in shown.partition('id="data"')[0]
    assert "A time or memory that is estimated" not in report.markdown()


def test_answers_summary_and_chart_name_the_same_least_time(tmp_path):
    """Every depth reaches the error, and the deepest happened to take the least time."""
    names = ["alternating", "analytic"]
    home = write(tmp_path, [record(case(), name, scores=scores(lambda *_: 1e-9)) for name in names])
    write_costs(home, names, [2.0, 1.0, 8.0, 4.0])
    results = load(home, "quick")
    summary = tables.summary_table(Report(results).summary).columns
    assert [str(cell) for cell in summary["depth to 1e-3"]] == ["≤ 1", "≤ 1"]
    assert [cell.key for cell in summary["time to 1e-3"]] == [1.0, 4.0]
    (figure,) = overview(results)
    cells = figure.rows[figure.rows["goal"] == "1e-3"].set_index("estimator")
    assert dict(cells["seconds"]) == {"alternating": "1 s", "analytic": "4 s"}
    assert dict(cells["text"]) == {"alternating": "1", "analytic": "4"}
    (row,) = answers(results)
    assert row.best.estimator == "alternating" and row.best.seconds.value == 1.0


def test_cases_that_differ_in_the_algorithm_are_one_problem(tmp_path):
    """Unless the algorithm leads elsewhere. The best pair is named, and the best unrolled one; one
    algorithm may be asked for.
    """
    cases = {
        algorithm: case(f"synthetic-{algorithm}-lasso", algorithm=algorithm)
        for algorithm in ("ista", "fista", "solver", "decaying")
    }
    other = case("synthetic-ista-other", algorithm="ista", loss="other")
    facts = {"solver": {"differentiable": False}, "decaying": {"proximal": False}}
    records = [
        record(item, "alternating", **facts.get(name, {})) for name, item in cases.items()
    ] + [record(other, "alternating")]
    home = write(tmp_path, records)
    seconds = [per * depth for per in (4, 2, 1, 3, 5) for depth in (1, 2)]
    write_costs(home, ["alternating"], seconds, names=[each["case"]["name"] for each in records])
    results = load(home, "quick")
    labels = ["synthetic-lasso", "synthetic-decaying-lasso", "synthetic-other"]
    first, elsewhere, last = answers(results)
    assert [row.cells["problem"].text for row in (first, elsewhere, last)] == labels
    assert str(first.cells["use"]) == "alternating with solver"
    assert first.case == "synthetic-solver-lasso"
    unrolled = f"alternating with fista, 4 s, error {0.5 * 0.96**200:.1e}, ≤ 200 layers".replace(
        "e-0", "e-"
    )
    assert str(first.cells["best unrolled"]).startswith(unrolled)
    assert elsewhere.cells["best unrolled"] == last.cells["best unrolled"] == Cell("the same")
    one = answers(results, algorithm="ista")
    assert [row.cells["problem"].text for row in one] == labels[::2]
    assert one[0].best.seconds.value == 8
    report = Report(results)
    table = pd.read_csv(io.StringIO(report.csv()))
    of_case = table[table["metric"] == "relative_error"].groupby("case")
    # One of the algorithms has no layers.
    assert [*framed(tables.references_table(results))["rho"]].count("–") == 1
    assert "depth (steps)" in {figure.x[0].title for figure in report.pictures}
    told = of_case[["problem", "answer"]].first().loc["synthetic-fista-lasso"]
    assert told.tolist() == ["synthetic-lasso", "best unrolled"]


def test_what_not_to_rely_on_is_one_list(tmp_path, monkeypatch):
    """One seed, estimated times, bad conditions, what is not reached, truncation and plug-ins."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one = case(seeds=[0])
    names = ("backprop", "alternating", "truncated(window=10)", "mine")
    rows = [{**references()[0], "condition_number": 3e5}]
    records = [record(one, name, references=rows) for name in names]
    write(tmp_path, records)
    write_experiments(tmp_path, [training("one"), training("two", "alternating")])
    results = dataclasses.replace(
        load(tmp_path, "quick"),
        checks=dict.fromkeys(("mine", "phantom(K=20)"), check_results.NOT_CHECKED),
    )
    # Only one of these passed all checks, and none since failed.
    failed = ["claim[ridge-linear-ista]"]
    check_results.remember(
        {check_results.CHECKED + "phantom(K=5)": [], "phantom(K=7)": []}
        | {check_results.CHECKED + "phantom(K=9)": [], "phantom(K=9)": failed}
    )
    report = Report(results)
    told = " ".join(report.caveats)
    for words in (
        "One seed alone on",
        "Each training ran with one seed only",
        "Condition numbers of codes are up to 3",
        "`mine` did not go through `pudle check`",
        "`phantom(K=20)` was checked as `phantom(K=5)` only.",
    ):
        assert words in told, (words, told)
    assert all(line in report.markdown() for line in report.caveats)
    ParsedPage(html(report)).check()


def test_a_column_that_says_nothing_is_left_out_everywhere(tmp_path):
    """In Markdown, on the page and in what it says without a script; else it stays."""
    fine = [record(case(), name) for name in ("alternating", "backprop")]
    report = reported(tmp_path / "a", fine)
    assert "| status |" not in report.markdown()
    (table,) = [item["tables"]["1e-3"] for item in data(html(report))["runs"][0]["cases"]]
    assert not {"status", "reason", "remark"} & {*table["columns"]}
    broken = [*fine, failure(case(), "analytic", "error", "ValueError: planted")]
    report = reported(tmp_path / "b", broken)
    assert "| status |" in report.markdown()
    (table,) = [item["tables"]["1e-3"] for item in data(html(report))["runs"][0]["cases"]]
    assert {"status", "reason"} <= {*table["columns"]}


def test_certificates_of_one_problem_are_one_row_and_say_what_holds_for_all(tmp_path):
    cases = [case(f"synthetic-{name}-lasso", algorithm=name) for name in ("ista", "fista")]
    whole = {"zero_codes": 0.0}
    records = [record(item, "backprop", references=references(**whole)) for item in cases]
    results = load(write(tmp_path / "a", records), "quick")
    (row,) = tables.certificates_table(results).records
    assert (row["case"].text, row["case"].case) == ("synthetic-lasso", "synthetic-ista-lasso")
    caption = tables.certificates_caption(results)
    same = "the reference is certified, the target is the exact gradient, no code is zero"
    assert f" In all rows {same}" in caption
    # One with other numbers has a row of its own.
    records[1] = record(cases[1], "backprop", references=references(bound=1e-11))
    results = load(write(tmp_path / "b", records), "quick")
    assert [str(row["case"]) for row in tables.certificates_table(results).records] == [
        "synthetic-ista-lasso", "synthetic-fista-lasso",
    ]  # fmt: skip
    assert "no code is zero" not in tables.certificates_caption(results)


@pytest.mark.parametrize(
    "error, told",
    [
        (0.1, "`backprop`, 0.1 (best in 3 of 3 seeds)."),
        (0.1995, "`backprop` and `analytic`, 0.2 (differences below 1%)."),
    ],
)
def test_errors_that_look_alike_are_both_the_most_accurate(tmp_path, error, told):
    curves = {"backprop": lambda *_: error, "analytic": lambda *_: 0.2}
    records = [record(case(), name, scores=scores(curve)) for name, curve in curves.items()]
    assert told in tables.findings(reported(tmp_path, records).summary)


def test_memory_that_falls_with_depth_is_said_to_be_noise(tmp_path):
    home = write(tmp_path, [record(case(), "backprop")])
    write_costs(home, ["backprop"], [1.0, 2.0], memory=[2.0**21, 2.0**20])
    said = " ".join(Report(load(home, "quick")).caveats)
    assert "took up to 1 MiB more than another of the same estimator" in said
    write_costs(home, ["backprop"], [1.0, 2.0], memory=[2.0**20, 2.0**21])
    assert "allocator" not in " ".join(Report(load(home, "quick")).caveats)


def test_memory_that_differs_with_the_loss_alone_is_said_to_be_noise(tmp_path):
    """Whatever another algorithm takes."""
    cases = [
        case("synthetic-ista-lasso"),
        case("synthetic-ista-other", loss="other"),
        case("synthetic-fista-lasso", algorithm="fista"),
    ]
    home = write(tmp_path, [record(item, "backprop") for item in cases])
    memory = [size * 2.0**20 for size in (3, 6, 4, 8, 30, 60)]
    write_costs(
        home, ["backprop"], [1.0, 2.0] * 3, memory=memory, names=[item["name"] for item in cases]
    )
    results = load(home, "quick")
    noises = {row.memory_noise for rows in results.measured.values() for row in rows}
    assert noises == {2 * 2.0**20}
    assert "took up to 2 MiB more than another" in " ".join(Report(results).caveats)


def test_how_to_read_says_where_kernels_take_part_and_how_memory_grows(four):
    """With times of the torch path and without; and only where something was timed."""
    assert "`ista` and `fista`" not in str(Report(load(four, "quick")).reading)
    names = ["alternating", "backprop"]
    costs = [1.0, 2.0, 10.0, 30.0]
    for torch in (None, [2.0, 4.0, 20.0, 60.0]):
        write_costs(four, names, costs, memory=[2.0**21] * 4, torch=torch)
        reading = dict(Report(load(four, "quick")).reading)
        assert "They run the layers of `ista` and `fista`" in reading["Torch path"]
        assert "in proportion to the depth" in reading["Memory"]


def test_what_rests_on_the_deepest_measured_depth_is_named(tmp_path):
    """In the tables, and with what not to rely on: the largest error before it first."""
    curves = {
        "alternating": lambda depth, _: 1e-9 if depth == 300 else 2e-3,
        "analytic": lambda depth, _: 0.7 if depth == 250 else 1e-9,
        "backprop": lambda *_: 1e-9,
    }
    records = [record(case(), name, scores=scores(curve)) for name, curve in curves.items()]
    report = reported(tmp_path, records)
    said = "error of at most 1e-3 for `analytic` on synthetic-ista-lasso (0.7 at depth 250)"
    assert f"{said} and `alternating` on synthetic-ista-lasso (" in " ".join(report.caveats)
    shown = map(str, report.by_case[0].summary.columns["depth to 1e-3"])
    cells = dict(zip(curves, shown, strict=True))
    assert cells["analytic"].endswith("at the deepest measured depth alone (error 0.7 at 250)")
    assert "alone" in cells["alternating"] and "alone" not in cells["backprop"]


def test_what_was_not_selected_is_said_with_the_reason():
    """A cell that is missing without a word looks like a failure."""
    solver = Case("solver", "synthetic", "solver", "lasso", (0,), (1,))
    layers = Case("layers", "synthetic", "ista", "lasso", (0,), (1,))
    pairs = [(solver, "analytic", False), (layers, "analytic", True), (layers, "backprop", True)]
    records = [
        SimpleNamespace(case=item, estimator=name, differentiable=able, proximal=True)
        for item, name, able in pairs
    ]
    results = Results(
        profile="quick",
        rows=[],
        references={},
        records=records,
        costs=[],
        cases={"solver": solver, "layers": layers},
        estimators=("analytic", "backprop"),
    )
    assert tables.unselected(results) == [
        "Not selected with `solver`, which has no layers to differentiate: `backprop`."
    ]


def test_what_means_nothing_on_an_own_problem_is_not_shown(tmp_path):
    """Signs of codes, samples and atoms where there are none, and the words for costs."""
    own = case("x", dataset="x.py:problem", algorithm="iteration", loss="own", targets=["limit"])
    facts = {"dual_margin": None, "smallest_amplitude": None, "zero_codes": 0.0, "samples": 1}
    rows = references(target="limit", status="limit", **facts)
    limits = scores(CURVES["backprop"], targets=["limit"])
    sparse = record(case(), "backprop")
    report = reported(tmp_path / "a", [record(own, "backprop", scores=limits, references=rows)])
    assert "support_error" not in report.results.metrics
    page = html(report)
    for word in ("uncertified", "all-zero codes", "no code is zero", "no sample", "atom"):
        assert word not in tables.certificates_caption(report.results)
        assert word not in report.reading_certificates
    assert "wrong sign" not in page and "Torch path" not in page + report.markdown()
    (line,) = report.recommendations
    assert line.startswith("The problem's own loss: ")
    # Beside a sparse problem there are signs, and none on the own one.
    report = reported(
        tmp_path / "b", [sparse, record(own, "backprop", scores=limits, references=rows)]
    )
    assert "support_error" in report.results.metrics
    by_case = {name: cases.seeds(report.results, name) for name in report.results.cases}
    assert by_case["x"]["support_error"].isna().all()
    assert by_case[case()["name"]]["support_error"].notna().all()


def test_signs_mean_something_where_a_limit_is_that_of_a_dictionary(tmp_path):
    named = case(dataset="convolutional", targets=["limit"])
    facts = {"target": "limit", "status": "limit", "dual_margin": None, "smallest_amplitude": None}
    limits = scores(CURVES["backprop"], targets=["limit"])
    records = [record(named, "backprop", scores=limits, references=references(**facts))]
    assert "support_error" in reported(tmp_path, records).results.metrics
