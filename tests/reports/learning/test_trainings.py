"""Reports, on results whose truth is known because the tests make them."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from parsed_page import ParsedPage
from synthetic import (
    COMMIT,
    CURVES,
    baseline,
    case,
    crops,
    denoising,
    experiment,
    interpretation,
    provenance,
    record,
    training,
    write,
    write_experiments,
)

from pudle.errors import UnreadableResult
from pudle.reports import text
from pudle.reports.command import report_command
from pudle.reports.learning import optimizers as optimizing
from pudle.reports.learning import pictures
from pudle.reports.learning import recovery as learning
from pudle.reports.load import load
from pudle.reports.page import Report


@pytest.fixture
def four(tmp_path):
    """Results of four estimators on one lasso case, exactly as theory has it."""
    return write(tmp_path, [record(case(), estimator) for estimator in CURVES])


def run(home, *arguments):
    return CliRunner().invoke(report_command, ["--home", str(home), *arguments])


# -- experiments: reading


def experiments(tmp_path, *records):
    """Results of experiments alone."""
    write_experiments(tmp_path, records)
    return load(tmp_path, "quick")


def headings(page):
    return re.findall(r'<h2 id="(\w+)"', page)


def test_of_an_experiment_the_newest_counts(tmp_path):
    dates = {"2026-01-02T00:00:00+00:00": 0.2, "2026-03-01T00:00:00+00:00": 0.3, "2026-02-01T00:00:00+00:00": 0.4}
    results = experiments(tmp_path, *(training("one", rate=rate, provenance=provenance(date=date))
                                      for date, rate in dates.items()), training("other"))  # fmt: skip
    assert [item.name for item in results.experiments] == ["one", "other"]
    assert results.experiments[0].rows["relative_error"].tolist()[1] == 0.5 * math.exp(-0.3)
    assert results.provenances[0]["date"].startswith("2026-03")


def test_null_of_an_experiment_is_no_number(tmp_path):
    (item,) = experiments(tmp_path, training("one", summary={"steps": None, "seconds": 3.0})).experiments
    assert math.isnan(item.column("loss")[0]) and item.column("loss")[1] == 2 * item.column("relative_error")[1]
    assert item.column("nobody measured this").isna().all() and len(item.column("nobody measured this")) == 51
    assert math.isnan(item.number("steps")) and item.number("seconds") == 3.0


def test_numbers_of_what_failed_do_not_count(tmp_path):
    (item,) = experiments(tmp_path, training("one", status="diverged", reason="the loss is not finite")).experiments
    assert item.summary["relative_error"] > 0 and math.isnan(item.number("relative_error"))


@pytest.mark.parametrize(("content", "told"), [
    ('{"schema": 1, "kind": "lear', "cannot be read"), ("[1]", "not a result"), ('{"schema": 1}', "kind is missing"),
    (json.dumps(experiment("x", schema=7)), "has schema 7 and this version reads 1"),
    (json.dumps(experiment("x", rows=[1])), "rows is missing or wrong"),
    (json.dumps(experiment("x", rows={})), "rows is missing or wrong"),
    (json.dumps(experiment("x", summary=None)), "summary is missing or wrong"),
    (json.dumps(experiment("x", provenance={})), "date"),
])  # fmt: skip
def test_damaged_experiment_is_refused_with_file_and_remedy(four, content, told):
    (path,) = write_experiments(four, [training("one")])
    path.write_text(content)
    with pytest.raises(UnreadableResult) as error:
        load(four, "quick")
    assert str(path) in str(error.value) and told in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("damage", ["missing", "half", "empty", "shape", "text"])
def test_damaged_arrays_are_refused_with_file(tmp_path, damage):
    record_, arrays = denoising("one", "BM3D")
    if damage == "shape":
        arrays["denoised"] = arrays["denoised"][:10]
    if damage == "text":
        arrays["denoised"] = np.full((64, 64), "x")
    (path,) = write_experiments(tmp_path, [(record_, arrays)])
    stored = path.with_suffix(".npz")
    if damage == "missing":
        stored.unlink()
    if damage in ("half", "empty"):
        stored.write_bytes(stored.read_bytes()[: len(stored.read_bytes()) // 2] if damage == "half" else b"")
    report = Report.of(load(tmp_path, "quick"))
    with pytest.raises(UnreadableResult, match=re.escape(str(stored))) as error:
        report.html()
    assert len(str(error.value).splitlines()) == 1


def test_experiments_alone_make_a_page_without_empty_shells(tmp_path):
    report = Report.of(experiments(tmp_path, training("one"), training("two", "alternating")))
    page = report.html()
    assert headings(page) == ["recovery", "problems", "provenance"]
    assert 'id="answers"' not in page and "2 experiments" in page and COMMIT[:12] in page
    parsed = ParsedPage(page)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids)) and page.count("<caption>") == page.count("<table ")
    done = run(tmp_path, "--format", "html", "--format", "markdown", "--format", "csv", "--format", "latex")
    assert done.exit_code == 0, done.output
    text_ = (tmp_path / "quick" / "report" / "report.md").read_text()
    assert re.findall("^## (.*)", text_, re.MULTILINE) == [
        "Dictionaries recovered", "Skipped, refused or failed", "Provenance"]  # fmt: skip


def test_cases_not_measured_yet_are_said_beside_experiments(tmp_path):
    write(tmp_path, [], cases=[case()], estimators=["backprop"])
    results = experiments(tmp_path, training("one"))
    assert not results.cases and "None of the selected cases is measured yet" in results.notes[0]
    assert "None of the selected cases" in Report.of(results).html()


def test_without_experiments_no_section_is_about_them(four):
    page = Report.of(load(four, "quick")).html()
    assert not {"recovery", "optimizers", "denoising", "interpretation", "others"} & set(headings(page))
    write_experiments(four, [training("one", study="optimizers")])
    page = Report.of(load(four, "quick")).html()
    assert {"answers", "summary"} <= set(re.findall(r'id="(\w+)"', page)) and "optimizers" in headings(page)
    assert not {"recovery", "denoising", "interpretation", "others"} & set(headings(page))


def test_kinds_of_plug_ins_are_listed_with_what_they_say(tmp_path):
    record_ = experiment("odd", "spectral", "strangers", summary={"gap": 0.25, "note": "<b>", "list": [1, 2], "none": None})
    page = Report.of(experiments(tmp_path, record_)).html()
    assert headings(page) == ["others", "problems", "provenance"]
    assert "gap: 0.25; note: &lt;b&gt;; list: 1, 2; none: –" in page


def test_failed_experiments_are_told_with_their_reasons(tmp_path):
    lacking = experiment(
        "bm3d", "denoising", "denoising", status="skipped", reason="install bm3d", setting={"baseline": "BM3D"}
    )
    results = experiments(tmp_path, lacking, training("died", status="timeout", reason="not finished after 9 s", rows=[]))
    done = run(tmp_path)
    page = (tmp_path / "quick" / "report" / "report.html").read_text()
    assert done.exit_code == 2 and "died" in done.stderr and "bm3d" not in done.stderr
    problems = page[page.index('<h2 id="problems"') :]
    assert "install bm3d" in problems and "not finished after 9 s" in problems
    # In the table of its group it has a row without any number.
    (row,) = learning.recovery_table(learning.recovered(results)[0]).to_dict("records")
    assert row["status"] == "timeout" and {row[name] for name in ("error at end", "relative error", "steps")} == {"–"}
    assert "denoising" not in headings(page)


# -- experiments: dictionaries


def test_the_best_of_a_table_are_those_of_the_data(tmp_path):
    rates = {("alternating", 25): 0.02, ("backprop", 25): 0.05, ("alternating", 50): 0.03, ("backprop", 50): 0.09}
    records = [training(f"{name}-{depth}", name, rate, setting={"depth": depth}) for (name, depth), rate in rates.items()]
    results = experiments(tmp_path, *records, training("dead", "analytic", 9.0, status="diverged", reason="no"))
    (group,) = learning.recovered(results)
    table = learning.recovery_table(group)
    for column in ("error at end", "relative error", "support recovered"):
        marked = [(str(row["method"]), row["layers"]) for row in table.to_dict("records") if row[column].best]
        assert marked == [("backprop", "50")], column
    assert table["error at end"].tolist()[:2] == [
        text.number(5 * math.exp(-0.02 * 50)),
        text.number(5 * math.exp(-0.05 * 50)),
    ]
    report = Report.of(results)
    shown = text.number(5 * math.exp(-0.09 * 50))
    assert f"<strong>{shown}</strong>" in report.html() and f"**{shown}**" in report.markdown()
    assert f"\\textbf{{{shown}}}" in report.latex()
    answer = learning.recovery_answer(group)
    assert f"At 25 layers `backprop` recovers best: its error falls from 5 to {text.number(5 * math.exp(-2.5))}" in answer
    # exp(0.03 * 50) and exp(0.06 * 50).
    assert "4.5 times as much" in answer and "20 times as much" in answer and "one seed each" in answer


def test_seeds_of_a_setting_are_one_method(tmp_path):
    rates = {0: 0.02, 1: 0.05, 2: 0.03}
    slow = [training(f"a-{seed}", "alternating", rate / 10, setting={"seed": seed}) for seed, rate in rates.items()]
    records = [training(f"b-{seed}", rate=rate, setting={"seed": seed}) for seed, rate in rates.items()]
    (group,) = learning.recovered(experiments(tmp_path, *slow, *records))
    assert [(method.label, len(method.runs)) for method in group.methods] == [("alternating", 3), ("backprop", 3)]
    ends = [5 * math.exp(-rate * 50) for rate in (0.03, 0.05, 0.02)]
    assert group.methods[1].spread("dictionary_error") == pytest.approx(tuple(ends), abs=1e-12)
    curve = group.methods[1].curve("dictionary_error").set_index("step")
    assert curve.loc[10, ["median", "least", "greatest"]].tolist() == pytest.approx(
        [5 * math.exp(-10 * rate) for rate in (0.03, 0.05, 0.02)], abs=1e-12
    )
    answer = learning.recovery_answer(group)
    assert "one seed" not in answer and "overlap" not in answer
    assert learning.recovery_table(group)["seeds"].tolist() == ["3", "3"]


def test_overlapping_seeds_are_said(tmp_path):
    records = [training(f"{name}-{seed}", name, rate + seed / 100, setting={"seed": seed})
               for name, rate in (("backprop", 0.05), ("alternating", 0.045)) for seed in range(3)]  # fmt: skip
    (group,) = learning.recovered(experiments(tmp_path, *records))
    assert "may be chance" in learning.recovery_answer(group) and "overlap" in learning.recovery_answer(group)


def test_what_ends_farther_away_has_recovered_nothing(tmp_path):
    (group,) = learning.recovered(experiments(tmp_path, training("one", rate=-0.01)))
    assert "no gradient recovers anything" in learning.recovery_answer(group)


def test_methods_are_named_by_what_tells_them_apart(tmp_path):
    rules = ["ista(step=0.2, thresholding='soft')", "ista(step=0.2, thresholding='hard(threshold=0.1)')"]
    records = [training(f"r{number}", setting={"algorithm": rule, "loss": loss})
               for number, (rule, loss) in enumerate(itertools.product(rules, ("lasso", "ridge")))]  # fmt: skip
    results = experiments(tmp_path, *records, baseline("sk", "scikit-learn"))
    (group,) = learning.recovered(results)
    assert [method.label for method in group.methods] == [
        "backprop, lasso loss, thresholding=soft", "backprop, ridge loss, thresholding=soft",
        "backprop, lasso loss, thresholding=hard(threshold=0.1)", "backprop, ridge loss, thresholding=hard(threshold=0.1)",
        "scikit-learn",
    ]  # fmt: skip
    assert [method.variant for method in group.methods] == [0, 1, 2, 3, 0]
    # Words in a figure are as they were written; only its coordinates are rounded.
    picture = learning.recovery_pictures(results)[0][0]
    assert "thresholding=hard(threshold=0.1)" in picture.svg and 'data-estimator="backprop"' in picture.svg
    assert "Of other packages scikit-learn is nearer still, 1.5e-6." in learning.recovery_answer(group)
    (group,) = learning.recovered(experiments(tmp_path / "slow", *records, baseline("sk", "scikit-learn", rate=0.05)))
    assert "Of other packages scikit-learn comes nearest, 0.41." in learning.recovery_answer(group)


@pytest.mark.parametrize(("specs", "expected"), [
    (["adam(learning_rate=0.1)", "adam(learning_rate=0.2)"], ["learning_rate=0.1", "learning_rate=0.2"]),
    (["adam(learning_rate=0.1)", "sgd(learning_rate=0.1)"], ["adam", "sgd"]),
    (["adam(a=1, b=2)", "adam(a=1, b=3)", "sgd"], ["adam(b=2)", "adam(b=3)", "sgd"]),
    (["adam", "adam(b=3)"], ["adam", "b=3"]),
    (["not a spec", "sgd"], ["not a spec", "sgd"]),
])  # fmt: skip
def test_specs_are_shortened_to_what_differs(specs, expected):
    assert list(learning.shortened(specs).values()) == expected


def test_curves_hold_the_history(tmp_path):
    records = [training(f"T{depth}-{name}", name, depth / 1000, setting={"depth": depth}, steps=400)
               for depth in (25, 50) for name in ("alternating", "backprop")]  # fmt: skip
    ((first, second, *others),) = learning.recovery_pictures(experiments(tmp_path, *records))
    assert len(others) == 2 and first.title == "25 layers, against epochs" and "seconds" in second.title
    data = pd.read_csv(io.StringIO(first.csv))
    assert len(data) == 2 * learning.POINTS and data["step"].max() == 400 and data["step"].min() == 0
    assert data["dictionary_error"].to_numpy() == pytest.approx(5 * np.exp(-0.025 * data["step"].to_numpy()), rel=1e-5)
    assert "Last values: alternating" in first.alt
    # The depths share their scale.
    limits = {picture.figure.axes[0].get_ylim() for picture in (first, second, *others)}
    assert len(limits) == 1


def test_numbers_in_words_of_a_figure_stay(tmp_path):
    (picture, _) = learning.recovery_pictures(experiments(tmp_path, training("x", "truncated(window=10)"),
        training("y", "alternating", setting={"optimizer": "adam(learning_rate=0.00123)"})))[0]  # fmt: skip
    assert "learning_rate=0.00123" in picture.svg
    content = dict(picture.files(("svg",)))
    assert "learning_rate=0.00123" in next(iter(content.values())).decode()


# -- experiments: optimizers


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("goal", [0.3, 0.1, 0.01])
def test_steps_to_a_goal_are_those_of_an_exponential(rate, goal):
    # log error is linear in the step, so that the interpolation is exact however far the rows are apart.
    steps = [0, 3, 10, 50, 400]
    errors = [0.5 * math.exp(-rate * step) for step in steps]
    assert optimizing.reached(steps, errors, goal) == pytest.approx(math.log(0.5 / goal) / rate, rel=1e-9)


@pytest.mark.parametrize(("errors", "expected"), [
    ([0.5, 0.4, 0.3], math.inf), ([0.05, 0.04], 0.0), ([0.5, math.nan, 0.005], None), ([], math.inf),
    ([math.nan, math.nan], math.inf), ([0.5, 0.1, 0.5], 1.0), ([1.0, 0.0], None),
])  # fmt: skip
def test_goal_out_of_reach_is_infinite_and_the_first_crossing_counts(errors, expected):
    found = optimizing.reached(range(len(errors)), errors, 0.1)
    if expected is None:
        # Over the gap, along the line through what is known.
        after = max(errors[-1], 1e-300)
        assert found == pytest.approx((len(errors) - 1) * math.log(errors[0] / 0.1) / math.log(errors[0] / after), rel=1e-9)
    else:
        assert found == expected


@pytest.fixture
def optimized(tmp_path):
    """Plain and accelerated descent with two gradients; the rates say how fast."""
    rates = {
        ("sgd(learning_rate=0.1)", "alternating"): 0.02, ("sgd(learning_rate=0.2)", "alternating"): 0.03,
        ("momentum(learning_rate=0.1)", "alternating"): 0.12, ("sgd(learning_rate=0.1)", "backprop"): 0.08,
        ("momentum(learning_rate=0.1)", "backprop"): 0.06, ("adam", "backprop"): 0.0001,
    }  # fmt: skip
    return experiments(tmp_path, *(
        training(f"o{number}", estimator, rate, steps=200, pace=0.5, study="optimizers", setting={"optimizer": optimizer})
        for number, ((optimizer, estimator), rate) in enumerate(rates.items())
    ))  # fmt: skip


def test_matrix_has_the_best_learning_rate_and_says_what_is_not_reached(optimized):
    (matrix,) = optimizing.matrices(optimized)
    assert matrix.goals()[-1] == 0.001 and len(matrix.goals()) == optimizing.MOST_GOALS
    table = optimizing.goal_table(matrix, 0.01).set_index("optimizer")
    steps = {rate: math.log(50) / rate for rate in (0.03, 0.12, 0.08, 0.06)}
    assert table.loc["sgd", "alternating"] == f"{math.ceil(steps[0.03])} steps, {steps[0.03] / 2:.3g} s, learning rate 0.2"
    assert table.loc["momentum", "alternating"] == f"{math.ceil(steps[0.12])} steps, {steps[0.12] / 2:.3g} s"
    assert table.loc["adam", "backprop"] == "not reached" and table.loc["adam", "alternating"] == text.DASH
    best = {(row, column) for column in table for row in table.index if table.loc[row, column].best}
    assert best == {("momentum", "alternating"), ("sgd", "backprop")}
    page = Report.of(optimized).html()
    assert headings(page)[0] == "optimizers" and "recovery" not in headings(page)
    assert '<td data-key="Infinity">not' in page


def test_answer_says_whom_acceleration_helps(optimized):
    (matrix,) = optimizing.matrices(optimized)
    answer = optimizing.optimizers_answer(matrix)
    goal = matrix.goals()[-1]
    alternating, backprop = (optimizing.gain(matrix, name) for name in ("alternating", "backprop"))
    # sgd gets to 0.1 % from a half in log(500) / 0.03 = 207 of its 200 steps: not there, but to 1 %.
    assert goal == 0.001 and alternating.goal == 0.01 and alternating.factor == pytest.approx(0.12 / 0.03)
    assert backprop.goal == 0.001 and backprop.factor == pytest.approx(0.06 / 0.08)
    assert answer.startswith("Acceleration helps `alternating`: momentum gets to a relative error of 0.01 in 33 steps "
                             "(16.3 s), sgd needs 131 steps (65.2 s), 4 times as many.")  # fmt: skip
    assert "It does not help `backprop` (momentum gets to a relative error of 0.001 in 104 steps" in answer


# -- experiments: pictures


def test_psnr_of_known_noise():
    clean = np.full((8, 8), 0.5)
    assert pictures.psnr(clean, clean + 0.1) == pytest.approx(20, abs=1e-9)
    assert pictures.psnr(clean, clean) == math.inf


def test_denoising_table_is_that_of_the_summaries(tmp_path):
    results = experiments(
        tmp_path, denoising("a", "backprop, reconstruction", "backprop", 0.5),
        denoising("b", "BM3D", "", 0.2, shifted=False), denoising("c", "alternating, lasso", "alternating", 0.25),
    )  # fmt: skip
    (images,) = pictures.denoised(results)
    table = pictures.denoising_table(images).set_index("method")
    gains = {"alternating, lasso": 26 - 20 * math.log10(0.25), "BM3D": 20 - 20 * math.log10(0.2),
             "backprop, reconstruction": 26 - 20 * math.log10(0.5)}  # fmt: skip
    assert list(table.index) == [*gains, "noisy images"]
    assert table["gain over noisy"].tolist() == [f"{gain - 20:+.2f} dB" for gain in gains.values()] + [text.DASH]
    assert [name for name in gains if table.loc[name, "PSNR"].best] == ["BM3D"]
    assert [name for name in gains if table.loc[name, "PSNR with shifts"].best] == ["alternating, lasso"]
    assert table.loc["BM3D", ["training", "steps", "PSNR with shifts"]].tolist() == [text.DASH] * 3
    assert table.loc["noisy images", "PSNR"] == "20.00 dB"
    answer = pictures.denoising_answer(images)
    assert answer.startswith(
        "`alternating`, lasso denoises best: 38.04 dB with shifts, 18.04 dB above the noisy images; next is BM3D, 4.06"
    )


def test_denoisings_that_differ_in_their_seed_are_one_method(tmp_path):
    records = []
    for seed, left in enumerate((0.5, 0.25, 0.4)):
        record_, arrays = denoising(f"d{seed}", "backprop, lasso", "backprop", left)
        records.append((record_ | {"setting": {"sigma": 0.1, "training": {"estimator": "backprop", "seed": seed}}}, arrays))
    (images,) = pictures.denoised(experiments(tmp_path, *records))
    (method,) = images.methods
    assert method.estimator == "backprop" and len(method.runs) == 3
    assert method.spread("psnr")[0] == pytest.approx(20 - 20 * math.log10(0.4), abs=1e-9)


def test_images_and_filters_are_in_the_page_with_words_for_them(tmp_path):
    results = experiments(tmp_path, denoising("a", "backprop, reconstruction", "backprop", filters=9),
                          denoising("b", "BM3D", left=0.25, shifted=False))  # fmt: skip
    images, filters = pictures.denoising_galleries(pictures.denoised(results)[0])
    clean, noisy = crops()
    assert [tile.caption[0] for tile in images.rows[0]] == ["clean", "noisy", "backprop, reconstruction", "BM3D"]
    assert np.array_equal(images.rows[0][0].image, np.round(255 * np.clip(clean, 0, 1)))
    before = pictures.psnr(clean, noisy)
    # Half of the noise, half of that with shifts, is 12.04 dB less; a quarter as well.
    assert images.rows[0][2].caption[1:] == (f"{before + 12.0412:.2f} dB with shifts", f"{before + 6.0206:.2f} dB without")
    assert images.rows[0][3].caption[1:] == (f"{before + 12.0412:.2f} dB",)
    data = pd.read_csv(io.StringIO(images.csv)).set_index("method")
    assert data.loc["BM3D", "psnr"] == pytest.approx(before + 20 * math.log10(4), abs=1e-3)
    sheet = filters.rows[0][0].image
    assert sheet.shape == (26, 26) and set(sheet[8]) == {255}
    page = Report.of(results).html()
    pictures_ = re.findall(r'<img src="(data:image/png;base64,[^"]+)" alt="([^"]+)"', page)
    assert len(pictures_) == 5 and all(alt.endswith(".") for _, alt in pictures_)
    done = run(tmp_path, "--format", "figures", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    for path in (tmp_path / "out" / "report_figures").glob("*.svg"):
        root = ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg") and root[0].text
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF") and len(pd.read_csv(path.with_suffix(".csv")))
    assert len(list((tmp_path / "out" / "report_figures").glob("*.svg"))) == 4


def test_filters_are_sorted_and_scaled_each_by_itself():
    flat, wave, checks = np.ones((4, 4)), np.tile([1.0, 1, -1, -1], (4, 1)), np.indices((4, 4)).sum(0) % 2 * 2.0 - 1
    sheet, order = pictures.mosaic(np.array([100 * checks, np.zeros((4, 4)), 1e-3 * wave, flat]))
    assert order.tolist() == [3, 2, 0, 1]
    assert set(sheet[:4, :4].ravel()) == {255} and set(sheet[:4, 5:].ravel()) == {1, 255}
    assert set(sheet[5:, :4].ravel()) == {1, 255} and set(sheet[5:, 5:].ravel()) == {128}


def test_samples_stand_beside_their_atom_in_order(tmp_path):
    record_, arrays = interpretation(atoms=3, samples=4)
    ((heading, answer, gallery),) = pictures.interpreted(experiments(tmp_path, (record_, arrays)))
    assert answer == ""
    told = {"share": 0.25, "cosine": 0.8, "residual": 1.5e-6, "purity": 0.6, "purity_by_chance": 0.3}
    known = record_ | {"name": "told", "summary": record_["summary"] | told}
    page = Report.of(experiments(tmp_path / "told", (known, arrays))).html()
    assert "4 samples shown of an atom are 25% of all that shaped it" in page and "a cosine of 0.80 with it." in page
    assert "On average 60% of them share one label, where of as many drawn at random it is 30%." in page
    assert "give the atoms back but for a relative error of 1.5e-6." in page
    assert heading == "backprop, image_patches" and [len(row) for row in gallery.rows] == [5] * 3
    captions = [tile.caption[0] for tile in gallery.rows[1]]
    assert captions == ["atom 2", *(text.number(1 / (1 + rank) + 0.01) for rank in range(4))]
    assert "weight 0.51" in gallery.rows[1][2].alt
    data = pd.read_csv(io.StringIO(gallery.csv))
    assert data["weight"].to_numpy() == pytest.approx(arrays["weights"].ravel(), rel=1e-5) and data["atom"].max() == 3


def test_page_of_many_experiments_stays_small(tmp_path):
    """Eight methods with large crops and many filters, beside three dozen trainings of 600 epochs."""
    methods = [denoising(f"d{number}", f"method {number}", "backprop", 0.4 + number / 100, side=256, filters=256)
               for number in range(8)]  # fmt: skip
    trainings = [training(f"t{number}-{depth}-{name}", name, 0.001 * (1 + depth), steps=600,
                          setting={"depth": depth, "dataset": f"sparse_gaussian(n_samples={number})"})
                 for number in range(4) for depth in (25, 50, 100) for name in CURVES]  # fmt: skip
    page = Report.of(experiments(tmp_path, *methods, *trainings)).html()
    assert page.count("<img ") == 2 + 8 + 8 and "data:text/csv" in page
    assert len(page) < 5_000_000


def test_latex_of_experiments_compiles(tmp_path):
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("needs pdflatex or tectonic")
    odd = experiment("odd", "spectral", "strangers", summary={"a_b": 0.5, "share": "50% & more"})
    results = experiments(
        tmp_path, training("one", rate=0.1), training("two", study="optimizers"), denoising("d", "BM3D"), odd
    )
    tables_ = Report.of(results).latex()
    assert tables_.count(r"\begin{tabular}") == 1 + 3 + 1 + 1 and tables_.isascii()
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}" + tables_ + r"\end{document}"
    (tmp_path / "document.tex").write_text(document)
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    done = subprocess.run([engine, *options, "document.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout + (tmp_path / "document.log").read_text()
