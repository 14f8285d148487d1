"""Words that users meet: help texts are sentences."""

import re

import click
import pytest

from pudle.cli import pudle as program


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
