"""The census in examples/census: its processes, what it confirms, its page, and what changed."""

import runpy
import sys
from dataclasses import replace

import pytest
from support.paths import ROOT

HERE, RESULTS = ROOT / "examples" / "census", ROOT / "docs" / "results"
FAKE = '''"""Fake: layers whose gradients are known."""
import torch
from census import Known, Layer, Status, drawn

def right() -> Layer:
    """A square."""
    return Layer(torch.square, [drawn(3)])

def half(other=None):
    return Layer(lambda x: x * x.detach(), [drawn(3)], known=Known(Status.TICKET, "1"), other=other)

def wrong():
    return half(torch.square)

def contradicted():
    return half(lambda x: x**3)

def detached():
    return Layer(lambda x: x.detach() ** 2, [drawn(3)], other=torch.square)

def silent():
    function = lambda x, y: x * y.detach() ** 2
    known = Known(Status.SILENT, "2")
    return Layer(function, [drawn(3), drawn(3) + 2], known=known, other=lambda x, y: x * y**2)

def silent_and_wrong():
    function = lambda x, y: x.detach() * x * y.detach()
    known = Known(Status.SILENT, "3")
    return Layer(function, [drawn(3), drawn(3) + 2], known=known, other=lambda x, y: x * x * y)

def undefined():
    return Layer(lambda x: torch.where(x < 9, x * x, x.sqrt()), [-drawn(3)], other=torch.square)

def broken():
    raise OSError("no such layer")

WITH, LAYERS = ["numpy"], [right, wrong, half, contradicted, detached, silent, silent_and_wrong]
LAYERS += [undefined, broken]
'''


@pytest.fixture(scope="module")
def frame():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield runpy.run_path(str(HERE / "run.py"))


@pytest.fixture(scope="module")
def rows(frame, tmp_path_factory):
    # Of a distribution that is installed.
    file = tmp_path_factory.mktemp("packages") / "torch.py"
    file.write_text(FAKE)
    return frame["census"](file, sys.executable)


def test_a_wrong_gradient_is_told_where_two_other_ways_agree_against_it(rows):
    assert [(each.layer, each.verdict, each.status) for each in rows] == [
        ("right", "right", "right"),
        ("wrong", "wrong", "known ticket"),
        ("half", "wrong", "not confirmed"),
        ("contradicted", "wrong", "not confirmed"),
        ("detached", "wrong", "new"),
        ("silent", "no gradient", "gives no gradient, and does not say so"),
        ("silent_and_wrong", "wrong", "new"),
        ("undefined", "wrong", "new"),
        ("broken", "none", "no verdict"),
    ]
    assert rows[0].asked == "A square" and {*rows[0].versions} == {"torch", "numpy"}
    assert rows[1].differences == pytest.approx(0.5) and rows[1].apart < 1e-10
    assert rows[-1].text == "OSError: no such layer"


@pytest.mark.parametrize(
    "text, limit, why",
    [("import not_there", 100, "does not import"), ("import time; time.sleep(9)", 1, "after 1 s")],
)
def test_a_package_that_gives_no_rows_is_one_that_says_why(frame, tmp_path, text, limit, why):
    file = tmp_path / "fake.py"
    file.write_text(text)
    (row,) = frame["census"](file, sys.executable, limit)
    assert row.status == "no verdict" and why in row.text


def test_changes_fail_where_a_verdict_is_another(frame, rows):
    newer = [replace(each, versions=each.versions | {"numpy": "9"}) for each in rows]
    told, failed = frame["changes"](rows, newer)
    assert not failed and "numpy 9" in told[0]
    told, failed = frame["changes"](rows, [replace(rows[0], verdict="wrong"), *rows[1:-1]])
    assert failed and "right is now wrong" in told[0] and len(told) == 1
    assert frame["changes"](rows, rows[1:])[1]


def test_the_page_shows_the_stored_rows(frame):
    page = RESULTS / "census.md"
    assert page.read_text() == frame["written"](frame["stored"](RESULTS / "census.jsonl"), page)
