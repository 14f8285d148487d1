"""Scores and experiments on disk for the tests of reports, and what a report makes of them."""

import re

import pandas as pd
from click.testing import CliRunner
from support.records.synthetic import write, write_experiments

from pudle.reports.cells import Cell
from pudle.reports.command import report_command
from pudle.reports.load import load
from pudle.reports.report import Report


def experiments(home, *records):
    """Write experiments and read them back as results."""
    write_experiments(home, records)
    return load(home, "quick")


def reported(home, records, **options):
    """Write scores and return the report of them."""
    return Report(load(write(home, records, **options), "quick"))


def run_report(home, *arguments):
    """Run `pudle report`."""
    return CliRunner().invoke(report_command, ["--home", str(home), *arguments])


def framed(table):
    """Return the texts of a table as a data frame."""
    texts = {name: [*map(str, cells)] for name, cells in table.columns.items()}
    return pd.DataFrame(texts, dtype=object)


def best_marks(table):
    """Tell of each cell of a table, as a data frame, whether it is marked as the best; the first
    column is the index.
    """
    texts = framed(table)
    marks = {
        name: [isinstance(cell, Cell) and cell.best for cell in cells]
        for name, cells in table.columns.items()
    }
    return pd.DataFrame(marks).set_index(texts.iloc[:, 0])


def headings(page):
    """Return the anchors of a page's sections, in order."""
    return re.findall(r'<h2 id="(\w+)"', page)


def only(study, results):
    """Return the methods of the only group of a study."""
    (methods,) = study.groups(results).values()
    return methods
