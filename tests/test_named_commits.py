"""Commits that the pages of results name are part of the history that holds the pages."""

import re
import subprocess

import pytest
from support.page.documents import PAGES
from support.paths import ROOT

RESULTS = [page for page in PAGES if page.startswith("docs/results/")]
#: One commit or several after the word, such as "commits b748021 to 1c85bee" or "commit 5cfd381d".
NAMED = re.compile(r"\bcommits? ((?:`?[0-9a-f]{7,12}`?(?:, | and | to )?)+)")
HASH = re.compile(r"[0-9a-f]{7,12}")


def git(*words):
    """Return what a git command in this repository prints, or None where it fails."""
    done = subprocess.run(("git", "-C", ROOT, *words), capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def named_commits(text):
    """Return the commits of this project that a page names."""
    return {
        commit for named in NAMED.findall(" ".join(text.split())) for commit in HASH.findall(named)
    }


@pytest.mark.parametrize("page", RESULTS)
def test_a_page_of_results_names_commits_of_its_history(page):
    if git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("needs the whole history")
    unknown = [
        commit
        for commit in sorted(named_commits((ROOT / page).read_text()))
        if git("merge-base", "--is-ancestor", commit, "HEAD") is None
    ]
    assert not unknown


@pytest.mark.parametrize(
    ("text", "commits"),
    [
        ("at commit 5cfd381d, on", {"5cfd381d"}),
        ("at commits b748021\nto 1c85bee", {"b748021", "1c85bee"}),
        ("at the commit of 1234567 samples", set()),
    ],
)
def test_named_commits_are_found(text, commits):
    assert named_commits(text) == commits
