"""The command line, fuzzed: whatever is typed, the exit code is 0, 1 or 2, and an error is one line
without a traceback.
"""

import random

import click
import pytest
from support.processes.commands import InThisProcess
from support.processes.repositories import repository

from pudle import cli
from pudle.errors import PudleError

NAMES = (
    "backprop truncated implicit sparse_gaussian digits image_patches ista adam lasso ridge".split()
)
SPECS = """
truncated(window=3)
truncated(window=-1)
truncated(windw=3)
backprop
finite_difference(step=0)
ista(step=2.5)
ista(thresholding='decaying(decay=0.9)')
sparse_gaussian(n_samples=10)
ridge(kappa=1e-3)
sparse_gaussian(n_samples=10, seed=True)
digits(n_samples=20)
image_patches(folder='.')
image_patches(folder='nowhere', n_samples=3)
sgd(learning_rate='x')
step(every=0)
spsa(samples=(1, 2))
file.py
file.py:Class(a=1)
nowhere/file.py(a=1)
array(path='file.txt')
ista(thresholding='file.py')
a(b=[[[[]]]])
f(**{})
""".strip().splitlines()
SPECS += ["x" * 300, "(((((((" * 50]
TEXTS = """
-
--
-1
0
1
2
7
1e999
nan
-inf
0x10
１
None
True
*
[
[!
**/*
?
~
.
..
/
/dev/null
/proc/self/mem
nowhere/deep
file.txt
file.py
HEAD
HEAD~99
main
@
字典
a b
é
'
"
=
a=b
%s
{0}
$(true)
<script>
cpu
cuda
quick
default
html
csv
latex
float32
exact
lasso
reconstruction
""".strip().splitlines()
TEXTS += ["", " ", "e\u0301", "\udce9", "\n", "\t", "\x1b[31m", "\\"]


@pytest.fixture
def typed(tmp_path, monkeypatch, capfd):
    """Call the program in this process, without the hours of work that a well-formed call would
    start.
    """
    from pudle.advising.search import Search
    from pudle.conformance import check_command
    from pudle.learning.denoising import DenoisingBaseline
    from pudle.learning.learner import Learner
    from pudle.measuring import commands, execution
    from pudle.measuring.commits.pair import CommitPair

    def work(*_, **__):
        raise PudleError("this call would have worked")

    # What is installed does not change meanwhile, and takes the longest to find.
    points = cli.points()
    monkeypatch.setattr(cli, "points", lambda: points)
    # A list is the same each time, and drawing its table would take half of the time.
    monkeypatch.setattr(commands, "_print", lambda kind, rows: [*rows])
    monkeypatch.setattr(execution, "execute", work)
    monkeypatch.setattr(check_command, "Pool", InThisProcess)
    monkeypatch.setattr(check_command, "_check", work)
    begins = [(CommitPair, "measure"), (DenoisingBaseline, "run"), (Learner, "fit")]
    for kind, method in [*begins, (Search, "references")]:
        monkeypatch.setattr(kind, method, work)
    monkeypatch.chdir(tmp_path)
    repository(tmp_path)
    (tmp_path / "file.txt").write_text("neither code nor an image\n")
    (tmp_path / "file.py").write_text("this is no Python\n")

    def call(arguments):
        code = cli.run(arguments)
        return code, *capfd.readouterr()

    return call


def value(draw):
    """Return a text that might be an option's value: well-formed, nearly so, or anything."""
    text = draw.choice(draw.choice([NAMES, SPECS, TEXTS]))
    for _ in range(draw.choice([0, 0, 0, 1, 3])):
        # No digits, which would turn small data sets into huge ones.
        place = draw.randrange(len(text) + 1)
        text = (
            text[:place]
            + draw.choice(["(", ")", "=", ",", "'", '"', "\\", "é", " ", "[", "-", "_", "x"])
            + text[place:]
        )
    return text


def arguments(draw, commands):
    """Return a random command with random options and values, at times cut short or mixed up."""
    name = draw.choice([*commands, *commands, value(draw)])
    known = commands.get(name) or draw.choice(list(commands.values()))
    parts = []
    for parameter in draw.choices(known.params, k=draw.randrange(5)):
        if isinstance(parameter, click.Option):
            option = draw.choice(parameter.opts)
            if isinstance(parameter.type, click.Choice) and draw.random() < 0.7:
                chosen = str(draw.choice(list(parameter.type.choices)))
            else:
                chosen = value(draw)
            parts += (
                [option]
                if parameter.is_flag
                else draw.choice([[option, chosen], [f"{option}={chosen}"]])
            )
        else:
            parts.append(value(draw))
    if draw.random() < 0.1:
        parts.insert(
            draw.randrange(len(parts) + 1),
            draw.choice(["--help", "--", "-", "--unknown", value(draw)]),
        )
    return [name, *parts]


@pytest.mark.parametrize(
    "calls, seed",
    [
        pytest.param(150, 0, marks=pytest.mark.slow),
        pytest.param(10_000, None, marks=pytest.mark.nightly),
    ],
)
def test_whatever_is_typed_gets_one_line(typed, calls, seed):
    draw = random.Random(seed)
    context = click.Context(cli.pudle)
    commands = {
        name: cli.pudle.get_command(context, name) for name in cli.pudle.list_commands(context)
    }
    codes = []
    for _ in range(calls):
        line = arguments(draw, commands)
        code, output, errors = typed(line)
        told = [text for text in errors.splitlines() if text.startswith("pudle: error: ")]
        assert code in (0, 1, 2), line
        assert "Traceback" not in errors + output, (line, errors)
        assert code != 2 or len(told) == 1 or (errors.startswith("Usage:") and not told), (
            line,
            errors,
        )
        codes.append(code)
    # The fuzzer reaches both sides of every check: wrong usage, help, and calls that would have
    # worked.
    assert codes.count(2) > calls / 2 and codes.count(0) > calls / 100
