"""The page in a real browser: what it shows, computes, keeps in its address and loads, how it fits,
and who can read it.
"""

import importlib.resources
import itertools
import json
import re
import shutil

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from support.page import living_page
from support.processes.live import wait_for
from support.records.synthetic import (
    CURVES,
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
from pudle.reports.tables import findings

DESKTOP, PHONE = (1280, 800), (390, 844)
FILTERS = ("dataset", "algorithm", "loss")
SOURCES = [("synthetic(n=10)", "ista(step=0.2)"), ("other(n=10)", "fista")]
CASES = [
    case(f"{dataset[:5]}-{loss}", dataset=dataset, algorithm=algorithm, loss=loss)
    for dataset, algorithm in SOURCES
    for loss in ("lasso", "reconstruction")
]
NAMES = [item["name"] for item in CASES]
EXPERIMENTS = [
    *(training(name, name) for name in CURVES),
    *(
        training(rule, study="optimizers", options={"optimizer": rule})
        for rule in ("sgd", "momentum")
    ),
    denoising("d-backprop", "backprop, reconstruction", "backprop", filters=20),
    denoising("d-bm3d", "BM3D", shifted=False),
    baseline("sk", "scikit-learn"),
    interpretation(samples=9),
    experiment("odd", "spectral", "strangers", summary={"gap": 0.25}),
    training("late", status="timeout", reason="not finished after 9 s"),
]
FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    " disable-component-update disable-sync hide-scrollbars"
).split()
#: Least contrast of meaningful graphics at level AA of the Web Content Accessibility Guidelines.
GRAPHICS_CONTRAST = 3.0
ENTER, TAB, ESCAPE = "\ue007", "\ue004", "\ue00c"
FIRST = "#panels figure:first-child"


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Results of four cases and estimators, one of which failed on one case, and experiments of all
    kinds.
    """
    records = [record(item, estimator) for item in CASES for estimator in CURVES]
    records[-2] = failure(CASES[-1], "analytic", "error", "ValueError: planted")
    home = write(tmp_path_factory.mktemp("results"), records)
    # Costs that no two cells share, so that every budget has an answer of its own.
    cells = range(len(records))
    seconds = [(1 + place % 7) * 1e-3 * part for place in cells for part in (1, 2.2)]
    memory = [(1 + place % 5) * 2.0**20 * part for place in cells for part in (1, 1.7)]
    write_costs(home, list(CURVES), seconds, memory, NAMES)
    write_experiments(home, EXPERIMENTS)
    return Report(load(home, "quick"))


@pytest.fixture(scope="session")
def address(report, tmp_path_factory):
    """Address of the page about these results."""
    return written(tmp_path_factory, report)


@pytest.fixture(scope="session")
def runs_address(tmp_path_factory):
    """Address of a page about two runs of the default profile's estimators on its case with the
    longest name, whose reference is a limit; the second run takes twice as long.
    """
    profile, reports = PROFILES["default"], []
    longest = max(profile.cases, key=lambda item: len(item.name))
    item = case(longest.name, **{key: getattr(longest, key) for key in FILTERS})
    for place in (1, 2):
        facts = {
            "references": references(status="limit"),
            "provenance": provenance(date=f"2026-01-0{place}T00:00:00+00:00"),
        }
        records = [record(item, name, **facts) for name in profile.estimators]
        home = write(tmp_path_factory.mktemp("run"), records)
        costs = [place * (number + 1) for number in range(2 * len(records))]
        write_costs(
            home, profile.estimators, costs, [2.0**20 * cost for cost in costs], [item["name"]]
        )
        reports.append(Report(load(home, "quick")))
    return written(tmp_path_factory, *reports, names=["first", "second"])


def written(factory, *reports, **options):
    page = factory.mktemp("page") / "report.html"
    page.write_text(living_page.html(*reports, **options))
    return page.as_uri()


class Browser:
    """Chromium with a page."""

    def __init__(self, driver):
        self.driver = driver
        self.cdp = driver.execute_cdp_cmd

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def open(self, address, size=DESKTOP):
        """Load a page anew, and wait until all figures are drawn."""
        self.resize(size)
        self.driver.get("about:blank")
        self.logs()
        self.driver.get(address)
        self.drawn()

    def resize(self, size):
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.cdp("Emulation.setDeviceMetricsOverride", metrics | {"mobile": size == PHONE})

    def drawn(self, after=0):
        """Wait until all figures have been drawn more often than before."""
        wait_for(lambda: self.drawings() > after)

    def drawings(self):
        return int(self.run("return document.documentElement.dataset.drawn ?? 0"))

    def change(self, script, *arguments):
        """Run what makes the page draw anew."""
        before = self.drawings()
        self.run(script, *arguments)
        self.drawn(before)

    def logs(self):
        """What was logged, and asked of a network."""
        events = [json.loads(row["message"]) for row in self.driver.get_log("performance")]
        return self.driver.get_log("browser"), [event["message"] for event in events]

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def visible(self, selector):
        """Texts of the elements that a reader can see."""
        script = (
            "return [...document.querySelectorAll(arguments[0])].filter(e =>"
            " e.getClientRects().length).map(e => e.textContent)"
        )
        return self.run(script, selector)

    def column(self, host, place):
        script = (
            "return [...document.querySelectorAll(`${arguments[0]} tbody tr`)].map(row =>"
            " [...row.cells].at(arguments[1]).textContent)"
        )
        return self.run(script, host, place)

    def choose(self, **values):
        script = (
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
        )
        for key, value in values.items():
            self.change(script, self.find(f"[data-key='{key}']"), value)

    def press(self, selector):
        self.change("arguments[0].click()", self.find(selector))

    def answers(self):
        """What the table of answers says: its cells, row by row."""
        return self.run(
            """return [...document.querySelectorAll("#answer-table tbody tr")].map(row =>
            [...row.cells].slice(1).map(cell => cell.textContent))"""
        )

    @property
    def address(self):
        return self.driver.current_url


@pytest.fixture(scope="session")
def browser():
    reason = "needs selenium, of the optional extra test"
    webdriver = pytest.importorskip("selenium.webdriver", reason=reason)
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver: Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    # Axe reads every element, which takes long on a busy machine.
    made.set_script_timeout(300)
    yield Browser(made)
    made.quit()


@pytest.fixture
def page(browser, address):
    """The page at desktop size, in the state in which it opens."""
    if browser.address.partition("#")[0] != address:
        browser.open(address)
    elif "#" in browser.address or browser.run("return innerWidth") != DESKTOP[0]:
        # Its own button brings it back in a fifth of the time that loading takes.
        browser.resize(DESKTOP)
        browser.press("#all")
    browser.run("scrollTo({top: 0, behavior: 'instant'})")
    return browser


# -- what a reader sees


def test_the_first_screen_answers_for_every_case_and_nothing_is_loaded(browser, address):
    browser.open(address)
    # What the label of a problem says already is not said again below it.
    assert browser.column("#answer-table", 0) == [
        "synth-lasso synthetic(n=10), lasso loss",
        "synth-reconstruction synthetic(n=10), reconstruction loss",
        "other-lasso n=10",
        "other-reconstruction n=10",
    ]
    last = "return document.querySelector('#answer-table tr:last-child')"
    assert browser.run(f"{last}.getBoundingClientRect().bottom") <= DESKTOP[1]
    # By keyboard: what the mouse focuses needs no ring.
    browser.find("body").send_keys(TAB)
    active = "document.activeElement"
    outline = browser.run(f"return [{active}.tagName, getComputedStyle({active}).outlineWidth]")
    assert outline[0] == "A" and float(outline[1].removesuffix("px")) >= 2
    browser.choose(x="ms")
    console, events = browser.logs()
    requests = [each["params"] for each in events if each["method"] == "Network.requestWillBeSent"]
    asked = {each["request"]["url"] for each in requests}
    assert console == [] and address in asked
    assert all(url.startswith(("data:", "about:")) for url in asked - {address})


def test_print_leaves_out_what_paper_cannot_do(page):
    page.cdp("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert page.visible(".bar, nav, .tools, .chooser, .pager") == []
        assert "Hover" not in page.find("main").text
        charts = page.run("return document.querySelectorAll('figure.chart svg.marks').length")
        assert len(page.visible("figure.chart svg.marks")) == charts > 7
        # On A4 the answers fit, their reasons with several words a line, and have their marks.
        page.resize((688, 1000))
        script = """const table = document.querySelector("#answer-table table");
        const cells = [...table.querySelectorAll("td[data-column=why]")];
        return [table.scrollWidth, Math.min(...cells.map((e) => e.clientWidth))]"""
        width, reasons = page.run(script)
        assert width <= 688 and reasons >= 140
        marked = "[data-table='run:budgets'] .est"
        assert len(page.visible(f"{marked} svg.look")) == len(page.visible(marked)) > 0
    finally:
        page.cdp("Emulation.setEmulatedMedia", {"media": ""})


def test_charts_say_their_values_on_hover_and_in_words(page, report):
    from selenium.webdriver.common.action_chains import ActionChains

    # Vega names every mark by its values for screen readers.
    mark = page.find(f"{FIRST} [aria-label*='depth (layers): 100;'][aria-label*='analytic;']")
    page.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", mark)
    ActionChains(page.driver).move_to_element(mark).perform()
    (tooltip,) = page.visible("#vg-tooltip-element.visible")
    cell = "case == @NAMES[0] and estimator == 'analytic' and depth == 100"
    values = report.results.frame.query(f"{cell} and metric == 'relative_error'")["value"]
    for value in (values.median(), values.min(), values.max()):
        assert re.sub(r"\.?0+e", "e", str(text.number(value, 3))) in tooltip
    script = "return [...document.querySelectorAll('#panels .place')].map(e => e.ariaLabel)"
    about = page.run(script)
    assert len(about) == len(CASES) and all("Last values: alternating" in words for words in about)


# -- answers, filters and the address


def test_wishes_change_the_answers_to_what_python_computes(page, report):
    limits = {key: list(values.items()) for key, values in wishes([report])._asdict().items()}
    assert min(map(len, limits.values())) > 1
    for place in (0, 2, 3, -1):
        asked = {key: values[place % len(values)] for key, values in limits.items()}
        page.choose(**{key: words for key, (words, _) in asked.items()})
        requirement = Requirement(*(value for _, value in asked.values()))
        assert page.answers() == [
            [
                *(" ".join([cell.text, *cell.details]) for cell in [*row.cells.values()][1:-2]),
                row.cells["why"].text.replace("`", ""),
            ]
            for row in answers(report.results, requirement)
        ]


def test_filters_of_cases_reach_answers_tables_and_figures(page):
    for key in FILTERS:
        value = CASES[2][key]
        page.choose(**{key: value})
        wanted = [item["name"] for item in CASES if item[key] == value]
        assert len(page.answers()) == len(wanted) < len(CASES)
        assert page.visible("#panels figcaption strong") == wanted
        for name in ("references", "budgets"):
            assert set(page.column(f"[data-table='run:{name}']", 0)) == set(wanted)
        assert page.visible(".bar output") == [f"{len(wanted)} of 4 cases"]
        page.press("#all")
    assert len(page.visible("#panels figure")) == len(CASES) and "#?" not in page.address
    page.choose(dataset="other(n=10)", algorithm="ista(step=0.2)")
    assert page.answers() == [] and page.visible("#panels figure, #across figure") == []
    assert "leaves nothing" in page.find("#answer-table caption").text


def test_an_estimator_goes_from_tables_curves_and_legend(page):
    mark = "#panels path[aria-label*='estimator: {};']"
    assert page.visible(mark.format("backprop")) and page.visible(".among") == []
    page.press("input[value='backprop']")
    assert "chosen among all estimators" in page.visible(".among")[0]
    assert page.visible(mark.format("backprop")) == []
    assert page.visible(mark.format("alternating"))
    assert "backprop" not in page.column("[data-table='run:rates']", 1)
    assert "backprop" not in page.visible("#legend button")
    assert page.visible(".bar summary") == ["estimators: 3 of 4"]
    left = set(page.column("[data-table='page:recovery-0-0']", 0))
    assert {"alternating", "scikit-learn"} <= left and "backprop" not in left
    for name in {*CURVES} - {"backprop"}:
        page.press(f"input[value='{name}']")
    assert page.visible(f"{FIRST} .note") == ["No estimator is chosen."]


def test_the_legend_isolates_an_estimator_and_seeds_are_drawn_one_by_one(page):
    script = f"""return [...document.querySelectorAll("{FIRST} .mark-line path")]
    .map(path => Number(path.getAttribute("opacity") ?? 1)).sort()"""
    before, opacities = page.drawings(), page.run(script)
    button = page.find("#legend button[value='analytic']")
    button.send_keys(ENTER)
    page.drawn(before)
    assert button.get_attribute("aria-pressed") == "true" and "focus=analytic" in page.address
    faint = page.run(script)
    assert faint[0] < 0.2 and faint[-1] == 1
    page.press("#legend button[value='analytic']")
    assert page.run(script) == opacities
    page.choose(spread="seeds")
    # Three seeds in place of a median; slopes of theory are lines too.
    assert len(page.run(script)) - len(opacities) == 2 * len(CURVES)
    assert page.visible(f"{FIRST} .mark-area path") == []


def test_an_address_restores_the_whole_state(page, address):
    for changes, title in (
        ({"x": "ms"}, "time of one gradient (ms)"),
        ({"x": "mib", "xscale": "log"}, "added peak memory (MiB)"),
        ({"y": "cosine_error", "yscale": "linear"}, "1 - cosine to the reference"),
    ):
        page.choose(**changes)
        assert title in page.visible(f"{FIRST} svg text")
        # Sorted by what does not grow with depth, a band would cross itself.
        assert page.visible(f"{FIRST} .mark-area path") == []
    page.choose(loss="reconstruction", error="1e-6", memory="2 MiB")
    page.press("input[value='truncated(window=10)']")
    page.press("nav a[href='#budgets']")

    def state():
        chosen = page.run("return [...document.querySelectorAll('[data-key]')].map(e => e.value)")
        left = page.visible(".bar summary")
        return chosen, left, page.answers(), page.visible(f"{FIRST} svg text")

    before = state()
    page.open(page.address)
    assert state() == before
    top = "return document.querySelector('#budgets').getBoundingClientRect().top"
    # A browser scrolls smoothly.
    wait_for(lambda: abs(page.run(top)) < DESKTOP[1])
    # An address of another report chooses what there is of it.
    page.open(f"{address}#?loss=nothing&without=nobody&run=7&case=none&dataset=other(n%3D10)")
    assert len(page.answers()) == 2
    for wrong in ("", "abc"):
        page.change("location.hash = arguments[0]", f"?error={wrong}")
        (told,) = page.visible(".bar output")
        assert "is no choice" in told and page.address == address
        assert len(page.answers()) == len(CASES)
    page.choose(error="0.1")
    assert "no choice" not in page.visible(".bar output")[0]


def test_a_case_opens_into_its_details_and_its_table_sorts(page, report):
    """Texts, and names for screen readers: a field that a row lacks would be undefined there."""
    script = """const texts = "figure.chart svg text, figure.chart svg [aria-label]";
    return [...document.querySelectorAll(texts)]
        .map((e) => e.getAttribute("aria-label") ?? e.textContent)"""
    for name in (NAMES[0], NAMES[-1]):
        page.press(f"#answer-table a[href*='case={name}&']")
        said = page.run(script)
        assert any("depth (layers): " in one for one in said)
        assert not [one for one in said if re.search(r"\b(undefined|null|NaN)\b", one)]
    host, header = "#case-table", "#case-table th:nth-child(2)"
    assert f"case={name}" in page.address and page.column(host, 0) == list(CURVES)
    failed = page.column(host, -2)[2], page.column(host, -1)[2]
    assert failed == ("error", "ValueError: planted")
    said = findings([row for row in report.summary if row.case == name])
    assert said and page.visible("#case-findings") == [said.replace("`", "")]
    # By mouse and by keyboard; what is not known comes last.
    for act, order, sign in (("click", "ascending", 1), (ENTER, "descending", -1)):
        button = page.find(f"{header} button")
        page.run("arguments[0].click()", button) if act == "click" else button.send_keys(act)
        assert page.find(header).get_attribute("aria-sort") == order
        *cells, unknown = page.column(host, 1)
        numbers = [sign * float(re.match(r"[\d.e-]+", cell)[0]) for cell in cells]
        assert numbers == sorted(numbers) and len(numbers) == 3 and unknown == "–"
    assert page.run("return document.activeElement.closest('th').ariaSort") == "descending"


def test_a_figure_is_enlarged_and_downloaded(page, tmp_path):
    allowed = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.cdp("Page.setDownloadBehavior", allowed)
    for kind in ("SVG", "PNG", "CSV"):
        button = page.find(f"#panels figure button[aria-label^='{kind}: ']")
        page.run("arguments[0].click()", button)
    wait_for(lambda: {path.suffix for path in tmp_path.iterdir()} == {".svg", ".png", ".csv"})
    (path,) = tmp_path.glob("*.csv")
    data = pd.read_csv(path).query("estimator == 'alternating' and depth == 100")
    assert data["relative_error"].item() == pytest.approx(0.5 * 0.955**100, rel=1e-5)
    page.run("arguments[0].focus(); arguments[0].click()", page.find("#panels figure button"))
    wait_for(lambda: page.visible("dialog svg.marks"))
    width = "return document.querySelector(`${arguments[0]} svg.marks`).clientWidth"
    assert page.run(width, "dialog") > 1.5 * page.run(width, "#panels")
    page.find("dialog").send_keys(ESCAPE)
    assert page.run("return document.activeElement.textContent") == "enlarge"


# -- what leaves the page, or needs another one: last, because loading it takes longest


def test_without_scripts_answers_tables_and_a_picture_are_there(page):
    page.cdp("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.driver.refresh()
        assert page.visible(".bar, .chooser, .pager, #figures") == []
        assert len(page.visible("#answer-table tbody tr")) == len(CASES)
        assert "need JavaScript" in page.visible("noscript p, .warning")[0]
        assert page.column("section[aria-labelledby=case] details[open]", 0) == list(CURVES)
        picture = page.find("img.overview")
        assert page.run("return arguments[0].naturalWidth", picture) > 500
        for name in ("budgets", "rates", "references"):
            assert NAMES[0] in page.column(f"[aria-labelledby={name}]", 0)
        assert "ValueError: planted" in page.find("[data-table='page:problems'] table").text
        assert len(page.column("[data-table='page:recovery-0-0']", 0)) > 1
    finally:
        page.cdp("Emulation.setScriptExecutionDisabled", {"value": False})
        page.driver.get("about:blank")


def test_policy_is_enforced(page):
    page.logs()
    # Ports of this very machine that nothing listens on: the policy must refuse before anything is
    # asked.
    done = page.driver.execute_async_script("""
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
    _, events = page.logs()
    sent = [event for event in events if event["method"] == "Network.responseReceived"]
    assert not any("127.0.0.1" in event["params"]["response"]["url"] for event in sent)
    page.driver.get("about:blank")


def test_the_address_keeps_which_of_several_runs_is_shown(browser, runs_address):
    browser.open(runs_address)
    assert browser.column("[data-table='page:runs']", 0) == ["first", "second"]
    assert browser.visible(".badge") == ["limit"]
    first = browser.answers()
    browser.choose(run="1")
    second = browser.answers()
    browser.open(browser.address)
    assert browser.answers() == second != first


def test_notes_below_a_figure_are_those_of_its_quantity_and_axis(browser, runs_address):
    """In the two runs many errors coincide, and no memories do."""
    browser.open(runs_address)
    script = """return Object.fromEntries([...document.querySelectorAll("#case-figures figure")]
    .map((e) => [e.querySelector("strong").textContent, e.querySelector(".note").textContent]))"""
    case = browser.run("return document.querySelector('#choose-case').options[1].value")
    browser.choose(case=case)
    notes = browser.run(script)
    assert "coincide" in notes["relative error of the gradient"]
    assert notes["added peak memory (MiB)"] == ""
    browser.choose(x="ms")
    assert "coincide" not in str(browser.run(script))


@pytest.mark.parametrize("address_of", ["address", "runs_address"])
def test_nothing_is_wider_than_the_window(browser, request, address_of):
    browser.open(request.getfixturevalue(address_of))
    for size in (DESKTOP, PHONE):
        browser.resize(size)
        browser.run("document.querySelector('.bar details').open = true")
        width = "return [innerWidth, document.documentElement.scrollWidth]"
        assert browser.run(width) == [size[0], size[0]]
        # Only the content of a box that scrolls by itself, and by keyboard, may stick out.
        script = """const boxes = [...document.querySelectorAll("main .scroll")];
        return [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, svg") &&
          e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))
        .concat(boxes.filter(e => e.scrollWidth > e.clientWidth && !(e.tabIndex === 0 &&
          e.role === "region" && e.ariaLabel)).map(e => e.outerHTML.slice(0, 80)))
        // Where a table goes on, a shadow says so; the answers and their budgets fit.
        .concat(boxes.filter(e => e.scrollWidth > e.clientWidth && e.closest(".table") &&
          (e.closest(".folds") || getComputedStyle(e).backgroundImage === "none"))
          .map(e => e.outerHTML.slice(0, 80)))"""
        assert browser.run(script) == []


def test_a_chart_that_goes_on_has_a_shadow_and_its_legend_fits(browser, tmp_path_factory):
    """On a phone, where more than one column of the matrix is seen beside long names."""
    named = case("bernoulli_gaussian-active_set-reconstruction", dataset="bernoulli_gaussian")
    home = write(tmp_path_factory.mktemp("long"), [record(named, name) for name in CURVES])
    write_costs(home, [*CURVES], [1.0, 2.0, 3.0, 6.0, 2.0, 4.0, 1.0, 2.0], names=[named["name"]])
    browser.open(written(tmp_path_factory, Report(load(home, "quick"))), PHONE)
    script = """const scroll = document.querySelector("#across .scroll"), {parentNode} = scroll;
    const shaded = (side) => getComputedStyle(parentNode, side).content !== "none";
    const edge = scroll.getBoundingClientRect().right;
    const right = (query) => scroll.querySelector(query).getBoundingClientRect().right;
    return [scroll.scrollWidth > scroll.clientWidth, shaded("::before"), shaded("::after"),
      right(".role-legend-gradient") < edge && right(".role-legend-title") < edge,
      [...scroll.querySelectorAll(".mark-rect path")].filter((e) =>
        e.getBoundingClientRect().right < edge).length]"""
    *facts, columns = browser.run(script)
    assert facts == [True, False, True, True] and columns >= 2
    end = "const e = document.querySelector('#across .scroll'); e.scrollLeft = e.scrollWidth"
    browser.run(end)
    wait_for(lambda: browser.run(script)[1:3] == [True, False])


def test_a_part_of_the_figures_says_so_in_print_and_its_legend_has_no_more(
    browser, tmp_path_factory
):
    """Of eight cases six are drawn at a time; only the other two have a line of `backprop`."""
    names = [f"part-{number}" for number in range(8)]
    records = [
        record(case(name, dataset=f"part_{name[-1]}(n=10)"), estimator)
        for name in names
        for estimator in ("alternating", *(["backprop"] if name > "part-5" else []))
    ]
    home = write(tmp_path_factory.mktemp("part"), records)
    browser.open(written(tmp_path_factory, Report(load(home, "quick"))), DESKTOP)
    assert browser.visible(".printed") == []
    assert browser.visible("#legend button") == ["alternating"]
    browser.cdp("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.visible(".printed") == ["Printed: cases 1 to 6 of 8."]
    finally:
        browser.cdp("Emulation.setEmulatedMedia", {"media": ""})
    browser.press("#panel-pages button:last-child")
    assert browser.visible("#legend button") == ["alternating", "backprop"]


# -- for everyone


@pytest.mark.slow
@pytest.mark.parametrize(
    "address_of, scheme, size",
    [("address", "dark", DESKTOP), ("runs_address", "light", PHONE)],
)
def test_axe_finds_nothing(browser, request, address_of, scheme, size):
    folder = importlib.resources.files(pytest.importorskip("axe_core_python"))
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.cdp("Emulation.setEmulatedMedia", {"features": features})
    browser.open(request.getfixturevalue(address_of), size)
    browser.run("document.querySelector('.bar details').open = true")
    browser.run(folder.joinpath("axe.min.js").read_text())
    done = browser.driver.execute_async_script(
        # The panels are one chart several times, with hundreds of marks each.
        "const [done] = arguments;"
        "const context = {exclude: ['#panels figure:not(:first-child)']};"
        "axe.run(context, {resultTypes: ['violations']}).then(done)"
    )
    violations = [
        (item["help"], [node["html"][:120] for node in item["nodes"]])
        for item in done["violations"]
    ]
    assert done["passes"] and violations == []
    browser.cdp("Emulation.setEmulatedMedia", {"features": []})


# -- colors, without a browser


def luminance(color):
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in mpl.colors.to_rgb(color)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


#: Estimators that compute each, and several specs of one class.
EVERY_LOOK = {f"{claim}{number}": claim for claim in looks.FAMILIES for number in range(9)} | {
    f"{claim}.py:Mine(terms={number})": claim for claim in looks.FAMILIES for number in range(4)
}
#: What the page's filter does to a color where the reader's system is dark: inverted, and the hue
#: turned by half a circle, by the matrix of the CSS specification.
HALF_TURN = 2 * np.array([0.213, 0.715, 0.072]) - np.eye(3)
DARK_CARD = "#1b1f26"


def in_the_dark(color):
    return np.clip(HALF_TURN @ (1 - np.array(mpl.colors.to_rgb(color))), 0, 1)


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_curves_stand_out_from_white_and_in_the_dark():
    style = importlib.resources.files("pudle.reports.page") / "templates" / "style.css"
    for part in ("invert(1) hue-rotate(180deg)", f"--card: {DARK_CARD}"):
        assert part in style.read_text()
    for name, look in looks.looks(EVERY_LOOK, {}).items():
        assert contrast(look.color, "#ffffff") >= GRAPHICS_CONTRAST, (name, look.color)
        assert contrast(in_the_dark(look.color), DARK_CARD) >= GRAPHICS_CONTRAST, (name, look.color)


def cielab(color):
    """The color in CIELAB, where a distance of 2 to 3 is just noticeable, for white D65."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in mpl.colors.to_rgb(color)
    ]
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("claim", [*looks.FAMILIES, "of no known kind"])
def test_specs_of_one_class_have_colors_that_can_be_told_apart(claim):
    specs = [f"mine.py:Mine(terms={terms})" for terms in (2, 5, 10)]
    found = looks.looks(dict.fromkeys(specs, claim), {})
    colors = [found[spec].color for spec in specs]
    for shown in (colors, [*map(in_the_dark, colors)]):
        for one, other in itertools.combinations(shown, 2):
            assert np.linalg.norm(cielab(one) - cielab(other)) > 10, (one, other)
    # In the order of the numbers, and whatever else is there.
    others = {"mine.py:Other(terms=3)": claim, "backprop": "unrolled"}
    assert [looks.looks(dict.fromkeys(reversed(specs), claim) | others, {})[spec].color
            for spec in specs] == colors  # fmt: skip
