"""Words that users meet: help texts are sentences, and no sentence has to be read twice."""

import re

import click
import pytest
from support.page.documents import PAGES
from support.paths import ROOT

from pudle.cli import pudle as program

#: Sentences in which a word stands for what the reader has to guess.
RIDDLES = re.compile(
    r"[Tt]he same is$|\bfills? the same\b|\bwithin an error, a time\b|\blimit\b[^.]{0,40}\bserves\b"
    r"|\b(?:is|are) told (?:once|at the end)\b|^So it is\b|[.!?] So (?:it is|does it)\b",
    re.MULTILINE,
)


def commands(group=program, path="pudle"):
    """Yield every command of the program with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command


@pytest.mark.parametrize(
    "words, command",
    list(commands()),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_option_explains_itself_in_a_sentence(words, command):
    assert "Example" in (command.help or ""), f"{words} --help shows no example"
    for option in command.params:
        if isinstance(option, click.Option) and option.name != "help":
            text = option.help or ""
            assert re.match(r"[A-Z`]", text) and re.search(r"[.\]]$", text.strip()), (
                f"{words} {option.opts[0]}: {text!r}"
            )


@pytest.mark.parametrize("page", PAGES)
def test_no_page_has_a_sentence_that_is_a_riddle(page):
    paragraphs = (ROOT / page).read_text().split("\n\n")
    # Lines are wrapped anywhere; what introduces a block ends its paragraph.
    riddles = [
        match[0] for text in paragraphs for match in RIDDLES.finditer(" ".join(text.split()))
    ]
    assert not riddles


@pytest.mark.parametrize("words, command", list(commands()), ids=str)
def test_no_help_has_a_sentence_that_is_a_riddle(words, command):
    text = " ".join(command.get_help(click.Context(command, info_name=words)).split())
    assert not RIDDLES.search(text)
