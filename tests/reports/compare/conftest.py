"""Fixtures that judge one planted result by an unchanged one."""

import pytest
from support.records.two_sides import blank, write

from pudle.measuring.stored_files import CommitRounds
from pudle.reports.compare.judge import compare
from pudle.reports.compare.sides import load_folder


@pytest.fixture(scope="session")
def unchanged(tmp_path_factory):
    """Results of an unchanged side."""
    return load_folder(write(tmp_path_factory.mktemp("unchanged") / "quick", blank()))


@pytest.fixture
def judge(tmp_path, unchanged):
    """Judge a planted head by a base; the arguments edit their contents, and a side without an edit
    is unchanged.
    """

    def judge(change=None, change_base=None, limits=None, rounds=None, lacking=None):
        def side(edit):
            if edit is None:
                return unchanged
            content = blank()
            edit(content)
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            return load_folder(write(folder / "quick", content))

        together = None
        if rounds is not None or lacking:
            together = CommitRounds(rounds=rounds or [], lacking=lacking or {})
        return compare(side(change_base), side(change), limits, together)

    return judge
