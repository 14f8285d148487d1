"""The page in a real browser: filters, sorting, what it loads, how it fits, and who can read it."""

from __future__ import annotations

import base64
import importlib.resources
import json
import re
import shutil
from itertools import product
from pathlib import Path

import matplotlib as mpl
import pytest
from synthetic import (
    CURVES,
    DEPTHS,
    baseline,
    case,
    denoising,
    experiment,
    failure,
    interpretation,
    record,
    scores,
    training,
    write,
    write_costs,
    write_experiments,
)

from pudle.reports import looks
from pudle.reports.compare.page import SideBySide
from pudle.reports.load import load
from pudle.reports.page import Report

DESKTOP, PHONE = (1280, 800), (390, 844)
CASES = [
    (dataset, algorithm, loss)
    for dataset, algorithm in (("synthetic(n=10)", "ista(step=0.2)"), ("other(n=10)", "fista"), ("patches(n=200)", "ista"))
    for loss in ("lasso", "reconstruction")
]
LOSSES = ("lasso", "reconstruction")
EXPERIMENTS = [
    *(training(f"T{depth}-{name}", name, depth / 500, options={"depth": depth}) for depth in (25, 50) for name in CURVES),
    *(training(f"o-{rule}-{loss}", rate=rate, study="optimizers", options={"optimizer": rule, "loss": loss})
      for rule, rate in (("sgd", 0.02), ("momentum(learning_rate=0.1)", 0.2)) for loss in LOSSES),
    *(denoising(f"d-{name}", f"{name}, reconstruction", name, filters=20) for name in CURVES),
    denoising("d-bm3d", "BM3D", shifted=False), baseline("sk", "scikit-learn"), interpretation(samples=9),
    experiment("odd", "spectral", "strangers", summary={"gap": 0.25}),
    experiment("late", study="recovery", status="timeout", reason="not finished after 9 s", options={"depth": 25}),
]  # fmt: skip
TABLE = "const table = [...document.querySelectorAll('table')].find(t => t.caption.textContent.startsWith(arguments[0]));"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
#: Least contrast of text and of meaningful graphics at level AA of the Web Content Accessibility Guidelines.
TEXT_CONTRAST, GRAPHICS_CONTRAST = 4.5, 3.0


def name_of(dataset, algorithm, loss):
    return "-".join(part.partition("(")[0] for part in (dataset, algorithm, loss))


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Results of six cases and four estimators, one of which failed on one case, and experiments of all kinds."""
    home = tmp_path_factory.mktemp("results")
    cases = [case(name_of(*facts), **dict(zip(("dataset", "algorithm", "loss"), facts, strict=True))) for facts in CASES]
    records = [record(item, estimator) for item in cases for estimator in CURVES]
    records[-2] = failure(cases[-1], "analytic", "error", "ValueError: planted")
    write(home, records)
    cells = len(cases) * len(CURVES)
    write_costs(
        home, list(CURVES), [1e-3, 2e-3] * cells, memory=[2.0**21, 2.0**22] * cells, names=[i["name"] for i in cases]
    )
    write_experiments(home, EXPERIMENTS)
    return Report.of(load(home, "quick"))


@pytest.fixture(scope="session")
def address(report, tmp_path_factory):
    """Address of the page about these results."""
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(report.html())
    return page.as_uri()


@pytest.fixture(scope="session")
def pair_address(report, tmp_path_factory):
    """Address of a page about these results beside themselves."""
    page = tmp_path_factory.mktemp("pair") / "report.html"
    page.write_text(SideBySide((report, report), ("one", "other")).html())
    return page.as_uri()


@pytest.fixture(scope="session")
def chromium():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the optional extra test")
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
    """The page, freshly loaded at desktop size."""
    resize(chromium, DESKTOP)
    chromium.get("about:blank")
    logs(chromium)
    chromium.get(address)
    return chromium


def resize(browser, size):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
    )


def logs(browser):
    return browser.get_log("browser"), [json.loads(row["message"])["message"] for row in browser.get_log("performance")]


def visible(browser, selector):
    """Texts of the elements that a reader can see."""
    script = (
        "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length).map(e => e.textContent)"
    )
    return browser.execute_script(script, selector)


def choose(browser, key, value):
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
    browser.execute_script(script, find(browser, f"#filter-{key}"), value)


def find(browser, selector):
    return browser.find_element("css selector", selector)


def columns(browser, caption, column):
    script = f"{TABLE} return [...table.tBodies[0].rows].map(row => row.cells[arguments[1]].textContent)"
    return browser.execute_script(script, caption, column)


# -- what a reader sees


def test_first_screen_answers_for_every_case(page, tmp_path):
    script = """return [...document.querySelectorAll("table.answers tbody tr")].map(row =>
    [row.cells[0].textContent, row.cells[1].textContent, row.getBoundingClientRect().bottom])"""
    rows = page.execute_script(script)
    assert [row[0] for row in rows] == [f"{dataset}{algorithm}, {loss} loss" for dataset, algorithm, loss in CASES]
    assert all(row[1] in CURVES for row in rows)
    assert max(row[2] for row in rows) <= DESKTOP[1]
    assert page.execute_script("return scrollY") == 0
    shot = tmp_path / "desktop.png"
    assert page.save_screenshot(str(shot)) and shot.stat().st_size > 20_000


def test_phone_fits_without_scrolling_sideways(page, tmp_path):
    resize(page, PHONE)
    page.execute_script("document.querySelector('.bar details').open = true")
    assert page.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [PHONE[0], PHONE[0]]
    # Only the content of a box that scrolls by itself may stick out.
    script = """return [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, svg") &&
    e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert page.execute_script(script) == []
    shot = tmp_path / "phone.png"
    assert page.save_screenshot(str(shot)) and shot.stat().st_size > 20_000


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_two_results_side_by_side_fit_and_filter(chromium, pair_address, size):
    resize(chromium, size)
    logs(chromium)
    chromium.get(pair_address)
    assert logs(chromium)[0] == []
    assert chromium.execute_script("return document.documentElement.scrollWidth") == size[0]
    assert len(visible(chromium, "table.answers tbody tr")) == 6
    choose(chromium, "loss", "lasso")
    assert len(visible(chromium, "table.answers tbody tr")) == 3 == len(visible(chromium, "figure"))


def test_print_leaves_out_what_paper_cannot_do(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert visible(page, ".bar, nav, figcaption a") == []
        assert len(visible(page, "figure svg")) == len(page.find_elements("css selector", "figure svg"))
        pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000


def test_without_scripts_everything_is_there(page):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert visible(page, ".bar, thead button") == []
        assert len(visible(page, "table.answers tbody tr")) == len(CASES)
        assert len(visible(page, "figure svg")) > 3 * len(CASES)
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_experiments_are_shown_with_their_pictures(page):
    names = visible(page, "h2")
    order = ["Dictionaries recovered", "Optimizers", "Images denoised", "Which samples shaped an atom", "Other experiments"]
    assert [name for name in names if name in order] == order
    # Every picture is there, is named, and is of some size to see.
    script = "return [...document.images].map(e => [e.complete && e.naturalWidth, e.alt.length, e.clientWidth])"
    sizes = page.execute_script(script)
    assert len(sizes) == 2 + 5 + 4 + 3 * 10 and all(min(size) > 0 and size[2] >= 60 for size in sizes)
    assert "not finished after 9 s" in " ".join(visible(page, "section:has(#problems) tbody td"))


def test_experiments_are_of_every_case_and_of_their_estimator(page):
    everything = visible(page, "section:has(#recovery) tbody tr"), visible(page, ".tile")
    choose(page, "dataset", "other(n=10)")
    assert (visible(page, "section:has(#recovery) tbody tr"), visible(page, ".tile")) == everything
    assert [row for row in visible(page, "section:has(#problems) tbody tr") if "not finished" in row]
    find(page, ".bar summary").click()
    find(page, "input[value='backprop']").click()
    left = visible(page, "section:has(#recovery) tbody th")
    assert "alternating" in left and "scikit-learn" in left and "backprop" not in left
    assert len(visible(page, "section:has(#denoising) .tile")) == len(everything[1]) - 3 * 10 - 2


def test_regions_that_scroll_are_reached_by_keyboard(page):
    resize(page, PHONE)
    script = """return [...document.querySelectorAll("main .scroll")].filter(e => e.scrollWidth > e.clientWidth &&
    !(e.tabIndex === 0 && e.getAttribute("role") === "region" && e.getAttribute("aria-label"))).length"""
    assert page.execute_script(script) == 0
    wide = "return [...document.querySelectorAll('main table')].filter(e => e.getBoundingClientRect().width > innerWidth"
    assert page.execute_script(f"{wide} && !e.closest('.scroll')).length") == 0
    assert page.execute_script(f"{wide} && e.closest('.scroll')).length") > 0


# -- what it loads


def test_nothing_is_loaded_and_nothing_is_logged(page):
    page.execute_script("for (const e of document.querySelectorAll('.bar select')) e.dispatchEvent(new Event('change'))")
    console, events = logs(page)
    assert console == []
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith(("data:", "about:")) or url == page.current_url.partition("#")[0] for url in asked)


def test_policy_is_enforced(page):
    # Ports of this very machine that nothing listens on: the policy must refuse before anything is asked.
    done = page.execute_async_script("""
    const done = arguments[arguments.length - 1], seen = [];
    document.addEventListener("securitypolicyviolation", event => seen.push(event.effectiveDirective));
    const add = (tag, values) => document.body.append(Object.assign(document.createElement(tag), values));
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


# -- filters


@pytest.mark.parametrize(("key", "value", "count"), [
    ("dataset", "other(n=10)", 2), ("algorithm", "fista", 2), ("loss", "lasso", 3),
])  # fmt: skip
def test_filters_of_cases_reach_answers_tables_and_figures(page, key, value, count):
    before = len(visible(page, "figure"))
    choose(page, key, value)
    wanted = [name_of(*facts) for facts in CASES if value in facts]
    assert len(visible(page, "table.answers tbody tr")) == count == len(wanted)
    assert set(visible(page, "figure[data-case] figcaption strong")) == set(wanted)
    assert visible(page, "section:has(#summary) h3")[:-1] == wanted
    cells = visible(page, "section:has(#rates) tbody th")
    assert set(cells) == set(wanted)
    assert len(visible(page, "figure")) < before
    assert visible(page, ".bar output") == [f"{count} of 6 cases"]
    find(page, ".bar button").click()
    assert len(visible(page, "figure")) == before and "#?" not in page.current_url


def test_filters_add_up_and_an_empty_choice_hides_headings(page):
    choose(page, "loss", "lasso")
    choose(page, "dataset", "other(n=10)")
    assert len(visible(page, "table.answers tbody tr")) == 1
    choose(page, "algorithm", "ista")
    assert visible(page, "table.answers tbody tr") == []
    assert "Error against depth" not in visible(page, "section:has(#figures) h3")


def test_an_estimator_goes_from_rows_curves_and_legends(page):
    hidden = "backprop"
    find(page, ".bar summary").click()
    find(page, f"input[value='{hidden}']").click()
    assert visible(page, f"tbody tr[data-estimator='{hidden}']") == []
    assert visible(page, f"figure svg g[data-estimator='{hidden}']") == []
    # Its curve, band, legend line and legend text in each figure; the others' are still there.
    assert page.execute_script(f"return document.querySelectorAll(\"figure svg g[data-estimator='{hidden}']\").length") > 24
    assert visible(page, "figure svg g[data-estimator='alternating']")
    assert visible(page, "figure svg [data-together]") == []
    assert visible(page, ".bar summary") == ["estimators: 3 of 4"]
    assert len(visible(page, "table.answers tbody tr")) == len(CASES)


def test_the_address_keeps_the_choice(page, address):
    choose(page, "loss", "reconstruction")
    find(page, ".bar summary").click()
    find(page, "input[value='truncated(window=10)']").click()
    kept = page.current_url
    page.get("about:blank")
    page.get(kept)
    assert len(visible(page, "table.answers tbody tr")) == 3
    assert visible(page, "tbody tr[data-estimator='truncated(window=10)']") == []
    # An address of another report chooses what there is of it.
    page.get("about:blank")
    page.get(f"{address}#?loss=nothing&without=nobody&dataset=other(n%3D10)")
    assert len(visible(page, "table.answers tbody tr")) == 2


# -- sorting


def test_tables_sort_by_number_with_the_unknown_last(page):
    caption = "patches(n=200), ista, reconstruction loss"
    before = columns(page, caption, 1)
    assert before[2] == "–" or "–" in before
    button = page.execute_script(f"{TABLE} return table.tHead.rows[0].cells[1].querySelector('button')", caption)
    header = button.find_element("xpath", "..")

    def numbers():
        return [re.match(r"[\d.e-]+", cell) and float(re.match(r"[\d.e-]+", cell)[0]) for cell in columns(page, caption, 1)]

    page.execute_script("arguments[0].click()", button)
    assert header.get_attribute("aria-sort") == "ascending"
    assert numbers()[:-1] == sorted(numbers()[:-1]) and numbers()[-1] is None
    # By keyboard, the other way round.
    button.send_keys("\ue007")
    assert header.get_attribute("aria-sort") == "descending"
    assert numbers()[:-1] == sorted(numbers()[:-1], reverse=True) and numbers()[-1] is None
    assert sorted(columns(page, caption, 1)) == sorted(before)


def test_a_table_is_sorted_by_one_column(page):
    for header in find(page, "table.answers").find_elements("css selector", "th button"):
        header.click()
    sorted_by = find(page, "table.answers").find_elements("css selector", "th[aria-sort]")
    assert [header.text.strip() for header in sorted_by] == ["why"]


# -- for everyone


@pytest.mark.slow
def test_axe_finds_nothing(page):
    source = importlib.resources.files(pytest.importorskip("axe_core_python")).joinpath("axe.min.js").read_text()
    for scheme, size in product(("light", "dark"), (DESKTOP, PHONE)):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        resize(page, size)
        page.execute_script("document.querySelector('.bar details').open = true")
        page.execute_script(source)
        # Nothing but colors depends on the scheme.
        rules = ["color-contrast"] if scheme == "dark" else None
        found = page.execute_async_script(
            "const [rules, done] = arguments; const options = rules ? {runOnly: rules} : {};"
            "axe.run(document, {resultTypes: ['violations'], ...options}).then(done)",
            rules,
        )
        assert found["passes"], (scheme, size)
        violations = [(item["id"], item["help"], [node["html"][:120] for node in item["nodes"][:3]])
                      for item in found["violations"]]  # fmt: skip
        assert violations == [], (scheme, size)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_headings_labels_and_names(page):
    levels = [int(item.tag_name[1]) for item in page.find_elements("css selector", "h1, h2, h3, h4")]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('select, input')].filter(e => !e.labels.length).map(e => e.outerHTML)"
    )
    assert unnamed == []
    nameless = "svg:not([role=img][aria-label]):not([aria-hidden=true])"
    assert page.find_elements("css selector", nameless) == []
    assert page.execute_script("return [...document.querySelectorAll('th')].filter(e => !e.scope).length") == 0
    assert page.execute_script("return document.documentElement.lang") == "en"


def test_focus_is_seen(page):
    # By keyboard: what the mouse focuses needs no ring.
    find(page, "body").send_keys("\ue004")
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineWidth")
    assert page.execute_script("return document.activeElement.tagName") == "A"
    assert float(outline.removesuffix("px")) >= 2


# -- colors, without a browser


def luminance(color):
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in mpl.colors.to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two):
    darker, lighter = sorted((luminance(one), luminance(two)))
    return (lighter + 0.05) / (darker + 0.05)


def test_text_stands_out_in_every_scheme():
    style = (Path(looks.__file__).parent / "templates" / "style.css").read_text()
    schemes = [dict(re.findall(r"--(\w+):\s*(#\w+)", block)) for block in re.findall(r":root\s*\{([^}]*)\}", style)]
    assert len(schemes) == 3
    for scheme in schemes:
        colors = schemes[0] | scheme
        for front, back in product(("ink", "soft", "accent", "bad"), ("paper", "card", "tint")):
            assert contrast(colors[front], colors[back]) >= TEXT_CONTRAST, (front, back, colors)


def test_curves_stand_out_from_paper():
    claims = {f"{claim}{number}": claim for claim in looks.FAMILIES for number in range(9)}
    for name, look in looks.looks(claims, {}).items():
        assert contrast(look.color, "#ffffff") >= GRAPHICS_CONTRAST, (name, look.color)


# -- size


@pytest.mark.slow
def test_a_page_of_the_default_profile_stays_small(tmp_path):
    """Ten cases of ten estimators at 23 depths and 5 seeds take at most ten times the page of one."""
    depths = sorted({*DEPTHS, *range(20, 210, 10)})
    names = [*CURVES, *(f"truncated(window={window})" for window in (1, 2, 5, 20, 50, 100))]
    rows = [dict(scores(CURVES["alternating"])[0], seed=seed, depth=depth) for seed in range(5) for depth in depths]
    one = case("case-ista-lasso", depths=depths, seeds=list(range(5)))
    errors = [[0.9 ** row["depth"] / (place + row["seed"] + 1) for row in rows] for place in range(len(names))]
    varied = [
        record(one, name, scores=[row | {"relative_error": error} for row, error in zip(rows, column, strict=True)])
        for name, column in zip(names, errors, strict=True)
    ]  # fmt: skip
    write(tmp_path, varied)
    write_costs(tmp_path, names, [1e-3, 2e-3] * 10, memory=[2.0**21, 2.0**22] * 10, names=[one["name"]])
    assert len(depths) == 23 and len(names) == 10
    assert 10 * len(Report.of(load(tmp_path, "quick")).html()) < 5_000_000
