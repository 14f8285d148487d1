"""Text that would be code in a format: each format shows it as text, whatever its field."""

import csv
import dataclasses
import io
import re

import pytest
from support.page import living_page
from support.page.parsed_page import ParsedPage
from support.records.synthetic import (
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
DRAWN = (0, len(HOSTILE) - 1)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results in which every text that a user, a plug-in or a machine chooses is hostile."""
    records, made = [], []
    for number, text in enumerate(HOSTILE):
        # A case's name is the name of a folder: it is none of these texts.
        named = case(f"hostile-{number}", dataset=text, algorithm=text)
        origin = provenance(machine=text, cpu=text, device=text, torch=text)
        records += [
            record(named, "backprop", provenance=origin),
            record(named, text, provenance=origin),
            failure(named, f"{text} failed", "error", text) | {"provenance": origin},
        ]
        prefix = f"{number}" if "/" in text else f"{number}{text}"
        made += [
            training(f"{prefix} one", text, options={"dataset": text}),
            experiment(f"{prefix} two", "other", text, summary={"method": text, text: text}),
            experiment(f"{prefix} three", status="error", reason=text, study=text),
        ]
    home = write(tmp_path_factory.mktemp("hostile"), records)
    names = [f"hostile-{number}" for number in range(len(HOSTILE))]
    times = [1.0, 2.0] * len(names)
    write_costs(home, ["backprop"], times, [2.0**21] * len(times), names=names)
    write_experiments(home, made)
    return load(home, "quick")


def markdown_is_text(written):
    """Read Markdown with another package: it holds no HTML and no foreign link, and the hostile
    text as text.
    """
    MarkdownIt = pytest.importorskip("markdown_it").MarkdownIt
    # Images of the report itself, and what a comment on a pull request may fold.
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.validateLink = lambda url: True
    blocks = parser.parse(written)
    tokens = [token for block in blocks for token in (block, *(block.children or ()))]
    html = [token.content.strip() for token in tokens if token.type.startswith("html")]
    own = r"(</?(details|summary)>|<!-- pudle-compare -->|[\w :,(-]+\)?|\s)*"
    assert all(re.fullmatch(own, item) for item in html), html
    links = [
        link for token in tokens for name, link in token.attrs.items() if name in ("href", "src")
    ]
    assert all(link.startswith(("#", "report_figures/")) for link in links), links
    inline = [
        "".join(child.content for child in block.children)
        for block in blocks
        if block.type == "inline"
    ]
    for text in HOSTILE:
        assert any(" ".join(text.split()) in item for item in inline), text


def csv_is_text(written):
    cells = [cell for row in csv.reader(io.StringIO(written)) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))]
    assert all(float(cell) or True for cell in cells if cell.startswith("-"))


def html_is_text(written):
    # The page's data and its own two scripts; the data are text that no reader of HTML takes for
    # anything else.
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", written, re.DOTALL)
    assert len(scripts) == 3 and re.fullmatch(r"[A-Za-z0-9+/=]+", scripts[0])
    parsed = ParsedPage(re.sub(r"<script[^>]*>.*?</script>", "", written, flags=re.DOTALL))
    assert parsed.handlers == [] and not any("javascript:" in link for link in parsed.links)
    shown, data = " ".join(parsed.text.split()), [*living_page.texts(living_page.data(written))]
    for text in HOSTILE:
        assert any(text in item for item in data) and " ".join(text.split()) in shown, text


def test_hostile_text_is_text_in_every_format_of_a_report(results):
    report = Report(results)
    html_is_text(living_page.html(report))
    markdown_is_text(report.markdown())
    csv_is_text(report.csv())
    latex = report.latex()
    assert r"\input" not in latex
    assert all(markup.latex(text).splitlines()[0] in latex for text in HOSTILE)
    drawn = [f"hostile-{number}" for number in DRAWN]
    for picture in report.pictures:
        assert re.fullmatch(r"[\w.-]+", picture.name)
        files = dict(picture.files(("csv", "svg") if picture.case in drawn else ("csv",)))
        csv_is_text(files.pop(f"{picture.name}.csv").decode())
        assert not any(
            tag in content for content in files.values() for tag in (b"<script", b"<img")
        )


def test_hostile_text_is_text_in_every_format_of_a_comparison(results):
    report = Report(results)
    html_is_text(living_page.html(report, report, names=HOSTILE[:2]))
    rows = [row._replace(value=2 * row.value) for row in results.rows]
    comparison = compare(results, dataclasses.replace(results, rows=rows))
    assert comparison.cells()
    comments = (summary.markdown(comparison, text, text, "quick") for text in HOSTILE)
    markdown_is_text("\n\n".join(comments))
    csv_is_text(markup.csv(comparison.frame))
