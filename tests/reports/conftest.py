"""Results and reports that the tests of the report share."""

import pytest
from support.page import living_page
from support.records.synthetic import CURVES, case, record, write, write_costs

from pudle.reports.load import load
from pudle.reports.report import Report


@pytest.fixture
def four(tmp_path):
    """Results of four estimators on one lasso case, exactly as theory predicts."""
    return write(tmp_path, [record(case(), estimator) for estimator in CURVES])


@pytest.fixture(scope="session")
def timed_home(tmp_path_factory):
    """The same with times and memory, to be read only."""
    home = write(
        tmp_path_factory.mktemp("timed"), [record(case(), estimator) for estimator in CURVES]
    )
    write_costs(home, list(CURVES), [1.0, 2.0, 3.0, 6.0, 2.0, 4.0, 1.0, 2.0], memory=[2.0**21] * 8)
    return home


@pytest.fixture(scope="session")
def timed(timed_home):
    """The report of these results."""
    return Report(load(timed_home, "quick"))


@pytest.fixture(scope="session")
def html(timed):
    """The page of this report."""
    return living_page.html(timed)
