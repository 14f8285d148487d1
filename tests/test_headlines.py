"""Numbers in the headlines of the pages of results, and in what README and the guides say was
found: they stand in a table of the page that the sentence links to.
"""

import re
import tomllib
from pathlib import PurePosixPath
from posixpath import normpath

import pytest
from support.page.documents import FENCE, PAGES
from support.paths import ROOT

RESULTS = [page for page in PAGES if page.startswith("docs/results/")]
NUMBER = re.compile(r"(?<![\w.\-])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w-])")
#: Code, the addresses of links, and the years of publications.
UNREAD = re.compile(r"`[^`]*`|\]\([^)]*\)|\b[A-Z]{4} \d{4}\b")
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
    """Return what a page says first: its first paragraph, with the list that this may introduce,
    and the others before its first section that stress something.
    """
    opening = (ROOT / page).read_text().partition("\n## ")[0]
    _, first, *others = opening.split("\n\n")
    introduced = others[:1] if re.fullmatch(r"\W*\w+[.:]\W*", first) else []
    stressed = [paragraph for paragraph in others if "**" in paragraph]
    return "\n\n".join([first, *introduced, *stressed])


#: Where pages say what was found, by their titles.
FINDINGS = [
    ("README.md", "What it found"),
    ("README.md", "What better gradients buy"),
    ("README.md", "In scikit-learn"),
    ("docs/learning.md", "What it buys"),
]
#: A link to a page of the site.
LINKED_PAGE = re.compile(r"\]\((?=[\w/#])([\w/]+\.md)?(?:#[\w-]+)?\)")
#: A row of a table, an item of a list, or a paragraph.
STATEMENT = re.compile(r"\n(?=\||- )|\n\n(?=\S)")


def section(text, title):
    """Return the text under a title of the second level, without code; fail where no section has
    this title.
    """
    sections = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    titles = sections[1::2]
    assert titles.count(title) == 1, f"no section is called {title!r}: there are {titles}"
    return FENCE.sub("", sections[2 * titles.index(title) + 2])


def findings(page, text, title):
    """Return each statement of a section that has numbers, with the pages that it links to, or else
    those that the section's first paragraph does.
    """
    folder = PurePosixPath(page).parent
    statements = STATEMENT.split(section(text, title).strip())
    linked = [
        [normpath(folder / path) if path else page for path in LINKED_PAGE.findall(statement)]
        for statement in statements
    ]
    return [
        (statement, pages or linked[0])
        for statement, pages in zip(statements, linked, strict=True)
        if numbers(statement)
    ]


def check_findings(page, text, title):
    """Assert that a section states numbers, and that each number stands in a table of a page to
    which its row, item or paragraph links.
    """
    stated = findings(page, text, title)
    for finding, pages in stated:
        known = set().union(*map(tables, pages))
        assert numbers(finding) <= known, (finding, pages, numbers(finding) - known)
        assert not RATIO.search(finding), finding
    assert stated, f"{title!r} of {page} states no number"


@pytest.mark.parametrize("page", RESULTS)
def test_numbers_of_a_headline_stand_in_a_table_of_its_page(page):
    said = headline(page)
    assert numbers(said) <= tables(page), numbers(said) - tables(page)
    assert not RATIO.search(said), RATIO.search(said)


@pytest.mark.parametrize(("page", "title"), FINDINGS)
def test_numbers_of_the_findings_stand_in_a_table_of_a_page_they_name(page, title):
    check_findings(page, (ROOT / page).read_text(), title)


@pytest.mark.parametrize(("page", "title"), FINDINGS)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text, title: text.replace(f"## {title}\n", "## Results\n"), "is called"),
        (lambda text, title: re.sub(r"\d", "n", text), "no number"),
        (lambda text, title: re.sub(r" (\d\.\d+)", r" \1 or 0.123456", text), "0.123456"),
        (lambda text, title: text.replace("](", "] ("), r"\[\]"),
    ],
    ids=["renamed", "without numbers", "another number", "without links"],
)
def test_a_section_of_findings_that_is_renamed_rewritten_or_wrong_is_noticed(
    page, title, change, said
):
    text = (ROOT / page).read_text()
    changed = change(text, title)
    assert changed != text
    with pytest.raises(AssertionError, match=said):
        check_findings(page, changed, title)


def test_every_other_number_in_readme_is_no_result():
    text = FENCE.sub("", (ROOT / "README.md").read_text())
    for title in (title for page, title in FINDINGS if page == "README.md"):
        text = text.replace(section(text, title), "")
    with (ROOT / "pyproject.toml").open("rb") as file:
        python = tomllib.load(file)["project"]["requires-python"]
    exit_codes, lines_of_an_example = {0, 1, 2}, {30}
    assert numbers(text) <= numbers(python) | exit_codes | lines_of_an_example
