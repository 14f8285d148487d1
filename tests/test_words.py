"""Words that users and readers meet: help texts are sentences, summaries say what a thing is."""

import ast
import re

import click
import pytest
from paths import ROOT

from pudle.cli import pudle as program

#: Words that a summary or a help text cannot begin with and still be understood alone.
FRAGMENTS = re.compile(r"(Of|With|Whose|Whether|What is to|That|For who|And|Or)\b")
PRODUCT = ("src", "estimators", "datasets", "bench", "reports")


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
            assert not FRAGMENTS.match(text), f"{words} {option.opts[0]}: {text!r} is a fragment"


def test_every_docstring_begins_with_a_sentence_of_its_own():
    wrong = []
    for folder in PRODUCT:
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (
                    text := ast.get_docstring(node)
                ):
                    first = text.split("\n\n")[0]
                    if FRAGMENTS.match(first) or not re.search(r"[.:!?)]$", first.strip()):
                        wrong.append(f"{file.relative_to(ROOT)}: {first.splitlines()[0]}")
    assert not wrong
