"""The blocks of the pages: what they hold, and whether tests run them."""

import re
import shlex
from collections import namedtuple

from support.paths import ROOT

#: Every page that readers meet, by its path from the root.
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RELEASING.md"] + sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("docs/*.md", "docs/results/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>not run|nightly): (?P<why>.+?) -->\n\n?)?"
    r'^```(?P<language>\w+|\{[\w-]+\})(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
#: Lines of a block that is set off by blanks alone, and is a command.
INDENTED = re.compile(r"^    ((?:pudle|make|python|asv|pip|git) .*)$", re.MULTILINE)
EXIT_CODE = re.compile(r"\s+# exit code (\d)$")


class Command(namedtuple("Command", "words expected code target", defaults=[(), 0, ""])):
    """A command line, lines that it should print (`...` stands for anything), its exit code, and
    the file of its output.
    """


class Block(namedtuple("Block", "language title text line mark why")):
    """A fenced block: its language, the file to save it as, its text, its line, and when and why no
    test runs it.
    """

    @property
    def commands(self):
        """The commands of a console block; a backslash joins lines."""
        found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", joined(self.text), re.MULTILINE)
        return [
            each for line, output in found for each in commands(line, tuple(output.splitlines()))
        ]


def joined(text):
    """Return a text whose lines end in no backslash."""
    return text.replace("\\\n", " ")


def commands(line, expected=()):
    """Return the commands of a line; `&&` and a redirection are the only things of a shell that
    pages use.
    """
    code = EXIT_CODE.search(line)
    parts = [shlex.split(part, comments=True) for part in EXIT_CODE.sub("", line).split("&&")]
    found = []
    for words in parts:
        target = ""
        if ">" in words:
            words, target = words[: words.index(">")], words[-1]
        found.append(Command(tuple(words), target=target))
    found[-1] = found[-1]._replace(expected=expected, code=int(code[1]) if code else 0)
    return found


def blocks(page):
    """Return the blocks of a page, in order."""
    text = (ROOT / page).read_text()
    found = [
        Block(
            match["language"],
            match["title"] or "",
            match["text"],
            text[: match.start("text")].count("\n") + 1,
            match["mark"] or "",
            match["why"] or "",
        )
        for match in FENCE.finditer(text)
    ]
    assert len(found) == len(re.findall(r"^```", text, re.MULTILINE)) / 2, (
        f"{page}: a fence that the pattern does not read"
    )
    return found


def indented(page):
    """Return the commands of a page that are set off by blanks."""
    outside = FENCE.sub("", (ROOT / page).read_text())
    return [each for line in INDENTED.findall(joined(outside)) for each in commands(line)]


def target_exists(name):
    """Return whether the Makefile has a target of that name."""
    makefile = (ROOT / "Makefile").read_text()
    return re.search(rf"^{re.escape(name)}:", makefile, re.MULTILINE) is not None
