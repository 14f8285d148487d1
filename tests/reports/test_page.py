"""The page in a real browser: what it shows, computes, keeps in its address and loads, how it fits,
and who can read it.
"""

from __future__ import annotations

import base64
import importlib.resources
import itertools
import json
import re
import shutil
from itertools import product
from pathlib import Path

import living_page
import matplotlib as mpl
import pytest
from synthetic import (
    CURVES,
    RHO,
    baseline,
    case,
    denoising,
    experiment,
    failure,
    interpretation,
    provenance,
    record,
    references,
    training,
    write,
    write_artifact,
    write_costs,
    write_experiments,
)

from pudle import text
from pudle.answers import Requirement
from pudle.bench.cases import PROFILES
from pudle.reports import looks
from pudle.reports.answers import answers
from pudle.reports.load import load
from pudle.reports.page.data import wishes
from pudle.reports.report import Report

DESKTOP, PHONE = (1280, 800), (390, 844)
CASES = [
    (dataset, algorithm, loss)
    for dataset, algorithm in (
        ("synthetic(n=10)", "ista(step=0.2)"),
        ("other(n=10)", "fista"),
        ("patches(n=200)", "ista"),
    )
    for loss in ("lasso", "reconstruction")
]
LOSSES = ("lasso", "reconstruction")
EXPERIMENTS = [
    *(
        training(f"T{depth}-{name}", name, depth / 500, options={"depth": depth})
        for depth in (25, 50)
        for name in CURVES
    ),
    *(
        training(
            f"o-{rule}-{loss}",
            rate=rate,
            study="optimizers",
            options={"optimizer": rule, "loss": loss},
        )
        for rule, rate in (("sgd", 0.02), ("momentum(learning_rate=0.1)", 0.2))
        for loss in LOSSES
    ),
    *(denoising(f"d-{name}", f"{name}, reconstruction", name, filters=20) for name in CURVES),
    denoising("d-bm3d", "BM3D", shifted=False),
    baseline("sk", "scikit-learn"),
    interpretation(samples=9),
    experiment("odd", "spectral", "strangers", summary={"gap": 0.25}),
    experiment(
        "late",
        study="recovery",
        status="timeout",
        reason="not finished after 9 s",
        options={"depth": 25},
    ),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
#: Least contrast of text and of meaningful graphics at level AA of the Web Content Accessibility
#: Guidelines.
TEXT_CONTRAST, GRAPHICS_CONTRAST = 4.5, 3.0


def name_of(dataset, algorithm, loss):
    return "-".join(part.partition("(")[0] for part in (dataset, algorithm, loss))


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Results of six cases and four estimators, one of which failed on one case, and experiments of
    all kinds.
    """
    home = tmp_path_factory.mktemp("results")
    cases = [
        case(name_of(*facts), **dict(zip(("dataset", "algorithm", "loss"), facts, strict=True)))
        for facts in CASES
    ]
    records = [record(item, estimator) for item in cases for estimator in CURVES]
    records[-2] = failure(cases[-1], "analytic", "error", "ValueError: planted")
    write(home, records)
    # Costs that no two cells share, so that every budget has an answer of its own.
    cells = len(cases) * len(CURVES)
    seconds = [(1 + place % 7) * 1e-3 * part for place in range(cells) for part in (1, 2.2)]
    memory = [(1 + place % 5) * 2.0**20 * part for place in range(cells) for part in (1, 1.7)]
    write_costs(home, list(CURVES), seconds, memory=memory, names=[item["name"] for item in cases])
    write_experiments(home, EXPERIMENTS)
    first = {"case": cases[0]["name"]}
    write_artifact(
        home,
        "jacobian_error",
        [{"depth": depth, "relative_error": 1 / depth} for depth in (1, 50)],
        **first,
    )
    surface = [
        {"depth": 50, "window": window, "relative_error": 1 / window, "status": "ok"}
        for window in (5, 50)
    ]
    write_artifact(home, "window_surface", surface, **first)
    return Report.of(load(home, "quick"))


@pytest.fixture(scope="session")
def address(report, tmp_path_factory):
    """Address of the page about these results."""
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(living_page.html(report))
    return page.as_uri()


@pytest.fixture(scope="session")
def runs_address(tmp_path_factory):
    """Address of a page about three runs on two machines."""
    reports = []
    for place, (machine, day) in enumerate((("here", "01"), ("there", "02"), ("here", "03"))):
        home = tmp_path_factory.mktemp(f"run{place}")
        origin = provenance(
            machine=machine, commit=f"{place}" * 40, date=f"2026-01-{day}T00:00:00+00:00"
        )
        write(home, [record(case(), name, provenance=origin) for name in CURVES])
        write_costs(
            home,
            list(CURVES),
            [1e-3 * (1 + place), 2e-3 * (1 + place)] * len(CURVES),
            memory=[2.0**21, 2.0**22] * 4,
        )
        reports.append(Report.of(load(home, "quick")))
    page = tmp_path_factory.mktemp("runs") / "report.html"
    page.write_text(living_page.html(*reports, names=["first", "second", "third"]))
    return page.as_uri()


@pytest.fixture(scope="session")
def large_address(tmp_path_factory):
    """Address of a page with the default profile's cases and estimators, with long names."""
    home, profile = tmp_path_factory.mktemp("large"), PROFILES["default"]
    cases = [
        case(item.name, dataset=item.dataset, algorithm=item.algorithm, loss=item.loss)
        for item in profile.cases
    ]
    write(home, [record(item, estimator) for item in cases for estimator in profile.estimators])
    costs = [
        1e-3 * (1 + place % 7) * part
        for place in range(len(cases) * len(profile.estimators))
        for part in (1, 2.2)
    ]
    write_costs(
        home,
        list(profile.estimators),
        costs,
        [2.0**30 * cost for cost in costs],
        [item["name"] for item in cases],
    )
    page = tmp_path_factory.mktemp("large-page") / "report.html"
    page.write_text(living_page.html(Report.of(load(home, "quick"))))
    return f"{page.as_uri()}#?case={cases[12]['name']}"


@pytest.fixture(scope="session")
def chromium():
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="needs selenium, of the optional extra test"
    )
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs Chromium and its driver: Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    # Axe reads every element, which takes long on a busy machine.
    made.set_script_timeout(300)
    yield made
    made.quit()


@pytest.fixture
def page(chromium, address):
    """The page at desktop size, in the state in which it opens."""
    if chromium.current_url.partition("#")[0] != address:
        resize(chromium, DESKTOP)
        fresh(chromium, address)
    elif "#" in chromium.current_url or chromium.execute_script("return innerWidth") != DESKTOP[0]:
        # Its own button brings it back in a fifth of the time that loading takes.
        resize(chromium, DESKTOP)
        press(chromium, "#all")
    chromium.execute_script("scrollTo({top: 0, behavior: 'instant'})")
    logs(chromium)
    return chromium


@pytest.fixture
def opened(page, address):
    """The page, freshly loaded."""
    return fresh(page, address)


@pytest.fixture
def limit_address(tmp_path):
    """Address of a page about a certified case and one that is scored against a limit."""
    own = record(
        case("own-iteration-lasso", dataset="own(n=10)"),
        "backprop",
        references=references(status="limit"),
    )
    page = tmp_path / "report.html"
    page.write_text(
        living_page.html(
            Report.of(load(write(tmp_path, [record(case(), "backprop"), own]), "quick"))
        )
    )
    return page.as_uri()


def fresh(browser, address):
    browser.get("about:blank")
    logs(browser)
    browser.get(address)
    drawn(browser)
    return browser


def drawn(browser, after=0):
    """Wait until all figures have been drawn more often than before."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60, 0.05).until(lambda _: drawings(browser) > after)


def drawings(browser):
    return int(browser.execute_script("return document.documentElement.dataset.drawn ?? 0"))


def resize(browser, size):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
    )


def logs(browser):
    return browser.get_log("browser"), [
        json.loads(row["message"])["message"] for row in browser.get_log("performance")
    ]


def visible(browser, selector):
    """Texts of the elements that a reader can see."""
    script = (
        "return [...document.querySelectorAll(arguments[0])].filter(e =>"
        " e.getClientRects().length).map(e => e.textContent)"
    )
    return browser.execute_script(script, selector)


def choose(browser, key, value):
    before = drawings(browser)
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
    browser.execute_script(script, find(browser, f"[data-key='{key}']"), value)
    drawn(browser, before)


def press(browser, selector):
    before = drawings(browser)
    browser.execute_script("arguments[0].click()", find(browser, selector))
    drawn(browser, before)


def find(browser, selector):
    return browser.find_element("css selector", selector)


def column(browser, host, place):
    script = (
        "return [...document.querySelectorAll(`${arguments[0]} tbody tr`)].map(row =>"
        " [...row.cells].at(arguments[1]).textContent)"
    )
    return browser.execute_script(script, host, place)


def shown_answers(browser):
    """Return what the table of answers says: its cells, row by row."""
    script = """return [...document.querySelectorAll("#answer-table tbody tr")].map(row =>
    [...row.cells].slice(1).map(cell => cell.textContent))"""
    return browser.execute_script(script)


def expected_answers(report, requirement):
    words = ("error", "depth", "time", "memory")
    return [
        [
            row["use"] or "no answer",
            *(str(row[word]) for word in words),
            row["short"].replace("`", ""),
        ]
        for row in answers(report.results, report.summary, requirement)
    ]


# -- what a reader sees


def test_first_screen_answers_for_every_case(opened, report, tmp_path):
    page = opened
    script = """return [...document.querySelectorAll("#answer-table tbody tr")].map(row =>
    [row.cells[0].textContent, row.cells[1].textContent, row.getBoundingClientRect().bottom])"""
    rows = page.execute_script(script)
    assert [row[0] for row in rows] == [
        f"{dataset} {algorithm}, {loss} loss" for dataset, algorithm, loss in CASES
    ]
    assert all(row[1] in CURVES for row in rows)
    assert max(row[2] for row in rows) <= DESKTOP[1]
    assert visible(page, ".subtitle")[0].startswith(
        "Rests on 4 estimators and 6 cases of 3 seeds, and 21 experiments."
    )
    assert page.execute_script("return scrollY") == 0
    shot = tmp_path / "desktop.png"
    assert page.save_screenshot(str(shot)) and shot.stat().st_size > 20_000


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("address_of", ["address", "runs_address", "large_address"])
def test_nothing_is_wider_than_the_window(chromium, request, address_of, size, tmp_path):
    resize(chromium, size)
    page = fresh(chromium, request.getfixturevalue(address_of))
    page.execute_script("document.querySelector('.bar details').open = true")
    assert page.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [
        size[0],
        size[0],
    ]
    # Only the content of a box that scrolls by itself may stick out.
    script = """return [...document.querySelectorAll("body *")]
    .filter(e => !e.closest(".scroll, svg") &&
    e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert page.execute_script(script) == []
    shot = tmp_path / "shot.png"
    assert page.save_screenshot(str(shot)) and shot.stat().st_size > 20_000


def test_print_leaves_out_what_paper_cannot_do(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert visible(page, ".bar, nav, .tools, .chooser, .pager") == []
        assert (
            len(visible(page, "figure.chart svg.marks"))
            == len(page.find_elements("css selector", "figure.chart svg.marks"))
            > 7
        )
        pdf = base64.b64decode(
            page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"]
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000


def test_without_scripts_answers_tables_and_a_picture_are_there(opened, report):
    page = opened
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert visible(page, ".bar, .chooser, .pager, #figures") == []
        assert len(visible(page, "#answer-table tbody tr")) == len(CASES)
        assert "need JavaScript" in visible(page, "noscript p, .warning")[0]
        first, *_ = report.of_cases([name_of(*CASES[0])])
        assert column(page, "section[aria-labelledby=case] details[open]", 1) == [
            " ".join((cell.head, *cell.details)) for cell in first["summary"].iloc[:, 1]
        ]
        (picture,) = page.find_elements("css selector", "img.overview")
        assert page.execute_script("return arguments[0].naturalWidth", picture) > 500
        for name in ("budgets", "rates", "references"):
            assert name_of(*CASES[0]) in column(page, f"[aria-labelledby={name}]", 0)
        assert "ValueError: planted" in find(page, "[data-table='page:problems'] table").text
        assert len(column(page, "[data-table='page:recovery-0-0']", 0)) > 1
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        page.get("about:blank")


def test_hover_shows_the_value_of_the_tidy_table(page, report):
    from selenium.webdriver.common.action_chains import ActionChains

    name, depth = "analytic", 100
    # Vega names every mark by its values for screen readers.
    label = f"depth (layers): {depth};"
    script = """return [...document.querySelectorAll("#panels figure:first-child path[aria-label]")]
    .find(path => [...arguments].every(words => path.ariaLabel.includes(words)))"""
    mark = page.execute_script(script, f"estimator: {name};", label)
    assert mark is not None
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", mark)
    ActionChains(page).move_to_element(mark).perform()
    (tooltip,) = visible(page, "#vg-tooltip-element.visible")
    frame = report.results.frame
    values = frame[
        (frame.case == name_of(*CASES[0]))
        & (frame.estimator == name)
        & (frame.depth == depth)
        & (frame.metric == "relative_error")
    ]["value"]
    for part in (name, values.median(), values.min(), values.max()):
        shown = part if part == name else re.sub(r"\.?0+e", "e", str(text.number(part, 3)))
        assert shown in tooltip, tooltip


# -- answers and filters


def test_wishes_change_the_answers_to_what_python_computes(page, report):
    options = "return [...document.querySelector(arguments[0]).options].map(o => o.value)"
    limits = {
        key: dict(zip(page.execute_script(options, f"#choose-{key}"), values, strict=True))
        for key, values in wishes([report]).items()
        for values in [values.values()]
    }
    assert all(len(known) > 1 for known in limits.values())
    for place in (0, 2, 3, -1):
        for key, known in limits.items():
            choose(page, key, list(known)[place % len(known)])
        asked = [list(known.values())[place % len(known)] for known in limits.values()]
        assert shown_answers(page) == expected_answers(report, Requirement(*asked))


# -- filters, figures and the address


def test_filters_of_cases_reach_answers_tables_and_figures(page):
    for key, value in (("dataset", "other(n=10)"), ("algorithm", "fista"), ("loss", "lasso")):
        choose(page, key, value)
        wanted = [name_of(*facts) for facts in CASES if value in facts]
        assert len(shown_answers(page)) == len(wanted) and 0 < len(wanted) < 6
        assert visible(page, "#panels figcaption strong") == wanted
        assert set(column(page, "[data-table='run:rates']", 0)) == set(wanted)
        assert set(column(page, "[data-table='run:budgets']", 0)) == set(wanted)
        assert visible(page, ".bar output") == [f"{len(wanted)} of 6 cases"]
        press(page, "#all")
    assert len(visible(page, "#panels figure")) == 6 and "#?" not in page.current_url


def test_filters_add_up_and_an_empty_choice_shows_no_figure(page):
    choose(page, "loss", "lasso")
    choose(page, "dataset", "other(n=10)")
    assert len(shown_answers(page)) == 1
    choose(page, "algorithm", "ista")
    assert shown_answers(page) == [] and visible(page, "#panels figure, #across figure") == []


def test_an_estimator_goes_from_tables_curves_and_legend(page):
    hidden = "backprop"
    mark = f"#panels path[aria-label*='estimator: {hidden};']"
    assert visible(page, mark)
    press(page, f"input[value='{hidden}']")
    assert visible(page, mark) == [] and visible(
        page, "#panels path[aria-label*='estimator: alternating;']"
    )
    assert hidden not in set(column(page, "[data-table='run:rates']", 1))
    assert hidden not in visible(page, "#legend button")
    assert visible(page, ".bar summary") == ["estimators: 3 of 4"] and len(
        shown_answers(page)
    ) == len(CASES)
    left = column(page, "[data-table='page:recovery-0-0']", 0)
    assert "alternating" in left and "scikit-learn" in left and hidden not in left


def test_the_legend_isolates_an_estimator_by_mouse_and_keyboard(page):
    lines = "#panels figure:first-child .mark-line path[aria-label*='line: ']"
    opacities = f"""return [...document.querySelectorAll("{lines}")]
    .map(path => Number(path.getAttribute("opacity") ?? 1)).sort()"""
    before = drawings(page)
    button = find(page, "#legend button[value='analytic']")
    button.send_keys("\ue007")
    drawn(page, before)
    assert button.get_attribute("aria-pressed") == "true" and "focus=analytic" in page.current_url
    faint = page.execute_script(opacities)
    assert faint[0] < 0.2 and faint[-1] == 1
    press(page, "#legend button[value='analytic']")
    assert min(page.execute_script(opacities)) == 1


def test_axes_change_and_an_address_restores_them(chromium, page):
    for changes, title in (
        ({"x": "ms"}, "time of one gradient (ms)"),
        ({"x": "mib", "xscale": "log"}, "added peak memory (MiB)"),
        ({"y": "cosine_error", "yscale": "linear"}, "1 - cosine to the reference"),
    ):
        for key, value in changes.items():
            choose(page, key, value)
        assert title in visible(page, "#panels figure:first-child svg text")
    kept, labels = page.current_url, visible(page, "#panels figure:first-child svg text")
    fresh(chromium, kept)
    assert visible(page, "#panels figure:first-child svg text") == labels
    shown = {
        key: find(page, f"[data-key='{key}']").get_attribute("value")
        for key in ("x", "xscale", "y", "yscale")
    }
    assert shown == {"x": "mib", "xscale": "log", "y": "cosine_error", "yscale": "linear"}


def test_seeds_are_drawn_one_by_one_and_as_a_band(page):
    lines = "return document.querySelectorAll('#panels figure:first-child .mark-line path').length"
    one = page.execute_script(lines)
    choose(page, "spread", "seeds")
    # Slopes of theory are lines too.
    assert page.execute_script(lines) - one == len(CURVES) * (len(RHO) - 1)
    assert visible(page, "#panels figure:first-child .mark-area path") == []


def test_cases_of_a_limit_are_marked_and_not_compared_with_others(chromium, limit_address):
    resize(chromium, DESKTOP)
    page = fresh(chromium, limit_address)
    assert visible(page, "#answer-table .badge") == ["limit"]
    across = find(page, "#across figure")
    assert "own-iteration-lasso" not in across.text and "left out" in across.text
    press(page, "#answer-table a[href*='case=own-iteration-lasso']")
    assert "scored against a limit" in visible(page, "#case-facts")[0]


def test_a_shared_address_restores_the_whole_state(chromium, page, report, address):
    for key, value in {"loss": "reconstruction", "error": "1e-6", "memory": "2 MiB"}.items():
        choose(page, key, value)
    press(page, "input[value='truncated(window=10)']")
    press(page, "nav a[href='#budgets']")
    kept, before = page.current_url, shown_answers(page)
    fresh(chromium, kept)
    assert shown_answers(page) == before and len(before) == 3
    assert find(page, "input[value='truncated(window=10)']").is_selected() is False
    assert page.execute_script(
        "return Math.abs(document.querySelector('#budgets').getBoundingClientRect().top) <"
        " innerHeight"
    )
    assert find(page, "#choose-error").get_attribute("value") == "1e-6"
    # An address of another report chooses what there is of it.
    fresh(chromium, f"{address}#?loss=nothing&without=nobody&run=7&case=none&dataset=other(n%3D10)")
    assert len(shown_answers(page)) == 2


def test_a_case_opens_into_its_details(page, report):
    name = name_of(*CASES[-1])
    press(page, f"#answer-table a[href*='case={name}&']")
    assert f"case={name}" in page.current_url
    assert column(page, "#case-table", 0) == list(CURVES)
    assert (
        column(page, "#case-table", -2)[2] == "error"
        and column(page, "#case-table", -1)[2] == "ValueError: planted"
    )
    assert visible(page, "#case-figures figcaption strong")[0] == "relative error of the gradient"
    (answer,) = (row for row in report.answers if row["case"] == name)
    assert visible(page, "#case-findings") == [answer["why"].replace("`", "")]


@pytest.mark.parametrize("place", [0, -1])
def test_no_chart_shows_or_reads_out_what_is_missing(page, place):
    """Texts, and names for screen readers: a field that a row lacks would be undefined there."""
    press(page, f"#answer-table a[href*='case={name_of(*CASES[place])}&']")
    script = """const texts = "figure.chart svg text, figure.chart svg [aria-label]";
    return [...document.querySelectorAll(texts)]
        .map((e) => e.getAttribute("aria-label") ?? e.textContent)"""
    said = page.execute_script(script)
    assert ("error of a Jacobian of zero" in said) == (place == 0) and any(
        "depth (layers): " in one for one in said
    )
    assert not [one for one in said if re.search(r"\b(undefined|null|NaN)\b", one)]


def test_a_figure_is_enlarged_and_downloaded(chromium, page, tmp_path):
    chromium.execute_cdp_cmd(
        "Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    for kind in ("SVG", "PNG", "CSV"):
        page.execute_script(
            "arguments[0].click()", find(page, f"#panels figure button[aria-label^='{kind}: ']")
        )
    from selenium.webdriver.support.ui import WebDriverWait

    endings = {".svg", ".png", ".csv"}
    WebDriverWait(page, 20).until(lambda _: {path.suffix for path in tmp_path.iterdir()} == endings)
    files = {path.suffix: path for path in tmp_path.iterdir()}
    assert files[".svg"].read_text().startswith("<svg") and files[".png"].read_bytes().startswith(
        b"\x89PNG"
    )
    import pandas as pd

    data = pd.read_csv(files[".csv"])
    row = data[(data["estimator"] == "alternating") & (data["depth"] == 100)].iloc[0]
    assert row[
        ["relative_error", "relative_error_low", "relative_error_high"]
    ].tolist() == pytest.approx([0.5 * rho**100 for rho in (0.955, 0.95, 0.96)], rel=1e-5)
    page.execute_script(
        "arguments[0].focus(); arguments[0].click()", find(page, "#panels figure button")
    )
    WebDriverWait(page, 20).until(lambda _: visible(page, "dialog svg.marks"))
    width = "return document.querySelector(arguments[0]).getBoundingClientRect().width"
    assert page.execute_script(width, "dialog svg.marks") > 1.5 * page.execute_script(
        width, "#panels svg.marks"
    )
    find(page, "dialog").send_keys("\ue00c")
    assert page.execute_script("return document.activeElement.textContent") == "enlarge"


def test_experiments_are_shown_with_their_pictures(page):
    names = visible(page, "h2")
    order = [
        "Dictionaries recovered",
        "Optimizers",
        "Images denoised",
        "Which samples shaped an atom",
        "Other experiments",
    ]
    assert [name for name in names if name in order] == order
    # Every picture is there, is named, and is of some size to see.
    script = (
        "return [...document.images].map(e => [e.complete && e.naturalWidth, e.alt.length,"
        " e.clientWidth])"
    )
    sizes = page.execute_script(script)
    assert len(sizes) == 2 + 5 + 4 + 3 * 10 and all(
        min(size) > 0 and size[2] >= 60 for size in sizes
    )
    assert len(visible(page, "[id^='figures-'] svg.marks")) == 2 + 2 + 1
    assert "not finished after 9 s" in column(page, "[data-table='page:problems']", 6)


def test_runs_stand_side_by_side_and_trends_are_per_machine(chromium, runs_address):
    resize(chromium, DESKTOP)
    page = fresh(chromium, runs_address)
    assert column(page, "[data-table='page:runs']", 0) == ["first", "second", "third"]
    titles = visible(page, "#trends figcaption strong")
    assert [title.split(": ")[1] for title in titles] == [
        "error",
        "time on here",
        "time on there",
        "memory on here",
        "memory on there",
    ]
    ratios = column(page, "[data-table='page:differences']", 8)
    assert ratios == ["2.00"] * len(CURVES) + ["3.00"] * len(CURVES)
    before = shown_answers(page)
    choose(page, "run", "2")
    # The third run takes three times as long.
    assert [cells[3].split(" (")[0] for cells in (*before, *shown_answers(page))] == [
        "580 µs*",
        "1.74 ms*",
    ]
    fresh(chromium, page.current_url)
    assert find(page, "[data-key='run']").get_attribute("value") == "2"


# -- what it loads


def test_nothing_is_loaded_and_nothing_is_logged(opened):
    page = opened
    choose(page, "x", "ms")
    console, events = logs(page)
    assert console == []
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked and all(
        url.startswith(("data:", "about:")) or url == page.current_url.partition("#")[0]
        for url in asked
    )


def test_policy_is_enforced(opened):
    page = opened
    # Ports of this very machine that nothing listens on: the policy must refuse before anything is
    # asked.
    done = page.execute_async_script("""
    const done = arguments[arguments.length - 1], seen = [];
    const note = event => seen.push(event.effectiveDirective);
    document.addEventListener("securitypolicyviolation", note);
    const add = (tag, values) =>
      document.body.append(Object.assign(document.createElement(tag), values));
    add("img", {src: "http://127.0.0.1:9/a.png"});
    add("script", {src: "http://127.0.0.1:9/a.js"});
    add("script", {textContent: "window.planted = true"});
    const end = () => done([seen.sort(), window.planted ?? false]);
    fetch("http://127.0.0.1:9/").catch(() => 0).then(() => setTimeout(end, 300));
    """)
    assert done == [["connect-src", "img-src", "script-src-elem", "script-src-elem"], False]
    _, events = logs(page)
    sent = [event for event in events if event["method"] == "Network.responseReceived"]
    assert not any("127.0.0.1" in event["params"]["response"]["url"] for event in sent)


# -- tables


def test_tables_sort_by_number_with_the_unknown_last(opened):
    page = opened
    press(page, f"#answer-table a[href*='case={name_of(*CASES[-1])}&']")
    host = "#case-table"
    before = column(page, host, 1)
    assert "–" in before

    def numbers():
        return [
            re.match(r"[\d.e-]+", cell) and float(re.match(r"[\d.e-]+", cell)[0])
            for cell in column(page, host, 1)
        ]

    header = f"{host} th:nth-child(2)"
    page.execute_script("arguments[0].click()", find(page, f"{header} button"))
    assert find(page, header).get_attribute("aria-sort") == "ascending"
    assert numbers()[:-1] == sorted(numbers()[:-1]) and numbers()[-1] is None
    # By keyboard, the other way round; the focus stays where it was.
    find(page, f"{header} button").send_keys("\ue007")
    assert find(page, header).get_attribute("aria-sort") == "descending"
    assert numbers()[:-1] == sorted(numbers()[:-1], reverse=True) and numbers()[-1] is None
    assert sorted(column(page, host, 1)) == sorted(before)
    assert (
        page.execute_script("return document.activeElement.closest('th').ariaSort") == "descending"
    )


# -- for everyone


def test_regions_that_scroll_are_reached_by_keyboard(page):
    resize(page, PHONE)
    script = """return [...document.querySelectorAll("main .scroll")]
    .filter(e => e.scrollWidth > e.clientWidth)
    .filter(e => !(e.tabIndex === 0 && e.getAttribute("role") === "region"
      && e.getAttribute("aria-label"))).length"""
    assert page.execute_script(script) == 0


@pytest.mark.slow
@pytest.mark.parametrize("address_of", ["address", "runs_address"])
def test_axe_finds_nothing(chromium, request, address_of):
    source = (
        importlib.resources.files(pytest.importorskip("axe_core_python"))
        .joinpath("axe.min.js")
        .read_text()
    )
    page = chromium
    for scheme, size in (("light", DESKTOP), ("light", PHONE), ("dark", DESKTOP)):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        resize(page, size)
        fresh(page, request.getfixturevalue(address_of))
        page.execute_script("document.querySelector('.bar details').open = true")
        page.execute_script(source)
        # Nothing but colors depends on the scheme.
        rules = ["color-contrast"] if scheme == "dark" else None
        found = page.execute_async_script(
            # The panels are one chart several times, with hundreds of marks each.
            "const [rules, done] = arguments; const options = rules ? {runOnly: rules} : {};"
            "const context = {exclude: ['#panels figure:not(:first-child)']};"
            "axe.run(context, {resultTypes: ['violations'], ...options}).then(done)",
            rules,
        )
        assert found["passes"], (scheme, size)
        violations = [
            (item["id"], item["help"], [node["html"][:120] for node in item["nodes"][:3]])
            for item in found["violations"]
        ]
        assert violations == [], (scheme, size)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_headings_labels_and_names(page):
    levels = [
        int(item.tag_name[1]) for item in page.find_elements("css selector", "h1, h2, h3, h4")
    ]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('select, input')].filter(e => !e.labels.length &&"
        " !e.ariaLabel).map(e => e.outerHTML)"
    )
    assert unnamed == []
    # A chart says in words what it shows.
    about = page.execute_script(
        "return [...document.querySelectorAll('#panels .place')].map(place => place.ariaLabel)"
    )
    assert len(about) == 6 and all("Last values: alternating" in words for words in about)
    assert (
        page.execute_script(
            "return [...document.querySelectorAll('th')].filter(e => !e.scope).length"
        )
        == 0
    )
    assert page.execute_script("return document.documentElement.lang") == "en"


def test_focus_is_seen(opened):
    page = opened
    # By keyboard: what the mouse focuses needs no ring.
    find(page, "body").send_keys("\ue004")
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineWidth")
    assert page.execute_script("return document.activeElement.tagName") == "A"
    assert float(outline.removesuffix("px")) >= 2


# -- colors, without a browser


def luminance(color):
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in mpl.colors.to_rgb(color)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two):
    darker, lighter = sorted((luminance(one), luminance(two)))
    return (lighter + 0.05) / (darker + 0.05)


def test_text_stands_out_in_every_scheme():
    style = (Path(looks.__file__).parent / "page" / "templates" / "style.css").read_text()
    schemes = [
        dict(re.findall(r"--(\w+):\s*(#\w+)", block))
        for block in re.findall(r":root\s*\{([^}]*)\}", style)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        colors = schemes[0] | scheme
        for front, back in product(("ink", "soft", "accent", "bad"), ("paper", "card", "tint")):
            assert contrast(colors[front], colors[back]) >= TEXT_CONTRAST, (front, back, colors)


def test_curves_stand_out_from_paper():
    claims = {f"{claim}{number}": claim for claim in looks.FAMILIES for number in range(9)}
    for name, look in looks.looks(claims, {}).items():
        assert contrast(look.color, "#ffffff") >= GRAPHICS_CONTRAST, (name, look.color)
