"""Numbers in the headlines of the pages of results, and in README's findings: they stand in a table
below them.
"""

import re

import pytest
from pages import PAGES
from paths import ROOT

RESULTS = [page for page in PAGES if page.startswith("docs/results/")]
NUMBER = re.compile(r"(?<![\w.\-])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w-])")
#: Code, and the addresses of links.
UNREAD = re.compile(r"`[^`]*`|\]\([^)]*\)")
#: A ratio in words stands in no table.
RATIO = re.compile(r"\b(half|third|quarter|fifth|sixth|seventh|eighth|ninth|tenth|twelfth)s? of\b")


def numbers(text):
    """Return the numbers of a text."""
    found = NUMBER.findall(UNREAD.sub("", text))
    return {float(number.replace(",", "").rstrip(".")) for number in found}


def tables(page):
    """Return the numbers in the tables of a page, and the sizes that its table of sizes names."""
    text = (ROOT / page).read_text()
    return numbers("\n".join(line for line in text.splitlines() if line.startswith("|")))


def headline(page):
    """Return what a page says first: its first paragraph, with the list that this may introduce."""
    _, first, *others = (ROOT / page).read_text().split("\n\n")
    introduced = re.fullmatch(r"\W*\w+[.:]\W*", first)
    return f"{first}\n{others[0]}" if introduced else first


def findings():
    """Yield what README says that was found, with the pages that it names."""
    text = (ROOT / "README.md").read_text().partition("## What better gradients buy")[2]
    opening, *bullets = text.partition("\nLicense")[0].split("\n- ")
    pages = re.findall(r"\((docs/results/\w+\.md)\)", opening + "".join(bullets))
    for bullet in bullets:
        yield bullet, re.findall(r"\((docs/results/\w+\.md)\)", bullet) or pages


@pytest.mark.parametrize("page", RESULTS)
def test_numbers_of_a_headline_stand_in_a_table_of_its_page(page):
    said = headline(page)
    assert numbers(said) <= tables(page), numbers(said) - tables(page)
    assert not RATIO.search(said), RATIO.search(said)


def test_numbers_of_the_findings_in_the_readme_stand_in_a_table_of_a_page_they_name():
    for said, pages in findings():
        known = set().union(*map(tables, pages))
        assert numbers(said) <= known, (said, numbers(said) - known)
        assert not RATIO.search(said), said
