"""Figures of the paper's experiments show the numbers of the tables on their pages."""

import fnmatch
import importlib.util
import json
import math
import re
from xml.etree import ElementTree as ET

import pytest
from support.paths import ROOT

import pudle

PATH = ROOT / "docs" / "images" / "paper_figures.py"
spec = importlib.util.spec_from_file_location("paper_figures", PATH)
paper_figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(paper_figures)

DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
NAMES = list(paper_figures.FIGURES)


def known(values):
    return {value for value in values if not math.isnan(value)}


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_figure_has_the_numbers_of_its_tables(name):
    (about,) = ET.parse(PATH.with_name(f"{name}.svg")).iter(DESCRIPTION)
    numbers = json.dumps(paper_figures.FIGURES[name].read())
    assert about.text == numbers, f"draw it again: python {PATH.relative_to(ROOT)}"


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_tables_is_drawn(name):
    figure, numbers = paper_figures.draw(name)
    drawn = {float(y) for panel in figure.axes for line in panel.lines for y in line.get_ydata()}
    places = {"depth", "batch", "steps", "penalty", "threshold"}
    values = {cell[0] for key, cells in numbers.items() if key not in places for cell in cells}
    assert known(values) and known(values) <= drawn


@pytest.mark.parametrize(
    ("text", "cell"),
    [("**0.079 (0.076 to 0.080)**", (0.079, 0.076, 0.08)), ("3.46 (220)", (3.46,) * 3)],
)
def test_a_cell_has_a_number_and_a_range(text, cell):
    assert paper_figures.parse_cell(text) == cell


@pytest.mark.parametrize("text", ["not run", "diverged in step 50", ""])
def test_a_cell_without_a_number_in_front_has_none(text):
    assert known(paper_figures.parse_cell(text)) == set()


def test_a_table_that_two_places_have_is_refused():
    with pytest.raises(ValueError, match="tables begin with"):
        paper_figures.read_table("recovery.md", "| ")


def test_each_command_of_the_page_carries_out_the_experiments_of_its_row_alone():
    """No experiment belongs to two rows, and no reduced form to any."""
    page = (ROOT / "docs" / "results" / "paper.md").read_text()
    rows = [
        re.findall(r"--experiment '?([^' ]+)'?", row) for row in re.findall(r"^\| .*", page, re.M)
    ]
    patterns = [row for row in rows if row]
    assert len(patterns) > 10
    seen = set()
    for row in patterns:
        for pattern in row:
            names = set(fnmatch.filter(pudle.list_experiments(), pattern))
            assert names and not names & seen, pattern
            assert not [name for name in names if "small" in name or name.endswith("-tangent")]
            seen |= names
