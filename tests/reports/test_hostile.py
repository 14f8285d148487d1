"""Text that would be code in a format: each format shows it as text, whatever its field."""

from __future__ import annotations

import csv
import io
import re

import living_page
import pytest
from parsed_page import ParsedPage
from synthetic import (
    case,
    experiment,
    failure,
    provenance,
    record,
    training,
    write,
    write_costs,
    write_experiments,
)

from pudle.reports import markup
from pudle.reports.compare import summary
from pudle.reports.compare.judge import compare
from pudle.reports.load import load
from pudle.reports.report import Report
from pudle.reports.runs import Runs

HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "`` ` `` <script>alert(1)</script> `",
    "[a](javascript:alert(1)) ![b](javascript:alert(1))",
    "a | b\nc | <b>d</b>",
    '=HYPERLINK("http://127.0.0.1")',
    "\\input{/etc/hostname} ^ ~ $x^2$ #1 & 5% _ { &lt;script&gt; $\\frac$",
]

#: Those that are drawn as well, which takes a second each: what XML and what matplotlib's formulas
#: could take for code.
DRAWN = (HOSTILE[0], HOSTILE[-1])


@pytest.fixture(params=HOSTILE)
def hostile(request):
    return request.param


@pytest.fixture
def results(tmp_path, hostile):
    """Results in which every text that a user, a plug-in or a machine chooses is hostile."""
    # A case's name is the name of a folder: it is none of these texts.
    named = case("hostile", dataset=hostile, algorithm=hostile)
    origin = provenance(machine=hostile, cpu=hostile, device=hostile, torch=hostile)
    records = [
        record(named, "backprop", provenance=origin),
        record(named, hostile, provenance=origin),
        failure(named, f"{hostile} failed", "error", hostile),
    ]
    home = write(tmp_path, [item | {"provenance": origin} for item in records])
    names = list(dict.fromkeys(item["estimator"] for item in records))
    write_costs(home, names, [1.0, 2.0] * 3, [2.0**21] * 6, names=[named["name"]])
    made = [
        training("one", hostile, options={"dataset": hostile}),
        experiment("two", "other", hostile, summary={"method": hostile, hostile: hostile}),
        experiment("three", status="error", reason=hostile, study=hostile),
    ]
    write_experiments(
        home,
        [
            item | {"name": item["name"] if "/" in hostile else hostile + item["name"]}
            for item in made
        ],
    )
    return load(home, "quick")


def markdown_is_text(written, hostile):
    """Read Markdown with another package: it holds no HTML and no foreign link, and the hostile
    text as text.
    """
    MarkdownIt = pytest.importorskip("markdown_it").MarkdownIt
    # Images of the report itself, and what a comment on a pull request may fold.
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.validateLink = lambda url: True
    tokens = [
        token for block in parser.parse(written) for token in (block, *(block.children or ()))
    ]
    html = [token.content.strip() for token in tokens if token.type.startswith("html")]
    own = r"(</?(details|summary)>|<!-- pudle-compare -->|[\w :,(-]+\)?|\s)*"
    assert all(re.fullmatch(own, item) for item in html), html
    links = [
        token.attrs.get("href") or token.attrs.get("src")
        for token in tokens
        if token.type in ("link_open", "image")
    ]
    assert all(link.startswith(("#", "report_figures/")) for link in links), links
    shown = " ".join(hostile.split())
    inline = [
        "".join(child.content for child in token.children or ())
        for token in tokens
        if token.type == "inline"
    ]
    assert any(shown in item for item in inline)


def csv_is_text(written):
    cells = [cell for row in csv.reader(io.StringIO(written)) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))]
    assert all(float(cell) or True for cell in cells if cell.startswith("-"))


def html_is_text(written, hostile):
    # The page's data and its own two scripts; the data are text that no reader of HTML takes for
    # anything else.
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", written, re.DOTALL)
    assert len(scripts) == 3 and re.fullmatch(r"[A-Za-z0-9+/=]+", scripts[0])
    assert any(hostile in item for item in living_page.texts(living_page.data(written)))
    parsed = ParsedPage(re.sub(r"<script[^>]*>.*?</script>", "", written, flags=re.DOTALL))
    assert parsed.handlers == [] and not any("javascript:" in link for link in parsed.links)
    assert " ".join(hostile.split()) in " ".join(parsed.text.split())


def test_hostile_text_is_text_in_every_format_of_a_report(results, hostile):
    report = Report.of(results, ["svg"] if hostile in DRAWN else [])
    html_is_text(living_page.html(report), hostile)
    markdown_is_text(report.markdown(), hostile)
    csv_is_text(report.csv())
    latex = report.latex()
    assert r"\input" not in latex
    assert markup.latex(hostile).splitlines()[0] in latex
    tables = (file for picture in report.pictures for file in picture.files(("csv",)))
    for name, content in report.figure_files() if hostile in DRAWN else tables:
        assert re.fullmatch(r"[\w.-]+", name)
        if name.endswith("csv"):
            csv_is_text(content.decode())
        else:
            assert b"<script" not in content and b"<img" not in content


def test_hostile_text_is_text_in_every_format_of_a_comparison(results, hostile):
    reports, names = [Report.of(results)] * 2, [hostile, f"{hostile} again"]
    html_is_text(living_page.html(*reports, names=names), hostile)
    markdown_is_text(Runs(reports, names).markdown(), hostile)
    csv_is_text(Runs(reports, names).csv())
    frame = results.frame.assign(value=results.frame["value"] * 2)
    worse = type(results)(
        **{name: getattr(results, name) for name in results.__dataclass_fields__} | {"frame": frame}
    )
    comparison = compare(results, worse)
    assert len(comparison.cells())
    markdown_is_text(summary.markdown(comparison, hostile, hostile, "quick"), hostile)
    csv_is_text(markup.csv(comparison.frame))
