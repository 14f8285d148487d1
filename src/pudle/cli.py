"""The `pudle` command. Its subcommands are entry points, so that the core need not import them."""

import ast
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import EntryPoint
from importlib.resources import files
from typing import TextIO

import click

from . import __version__, names
from .errors import OutputClosed, PudleError, first_line
from .text import printable

#: Exit code for wrong usage or a broken run; 1 means a regression or a failed check.
USAGE = 2
SHARE = "share a results folder and compare with `pudle report A B`"
#: Commands and options that went, and what serves instead.
GONE = {
    "submit": SHARE,
    "leaderboard": SHARE,
    "init-plugin": (
        "a plug-in is a file and ten lines of pyproject.toml, see docs/add_an_estimator.md,"
        " and .github/workflows/gate.yml judges its pull requests, see docs/gate.md"
    ),
    "denoise --baseline": "other packages' methods are experiments, `pudle run --experiment NAME`",
    "report --index": (
        "`pudle report A B` shows several results in one page, and `asv publish` draws commits"
    ),
}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Raise PudleError for a file that cannot be used, an output that is closed, and code that
    tries to end the program.

    Where the output is closed, what is still to be printed on stdout is dropped, now and later.
    """
    try:
        yield
    except (OSError, SystemExit) as error:
        # The library that prints tables turns a closed pipe into an attempt to end the program.
        cause = error if isinstance(error, OSError) else error.__context__
        text = f"a plug-in tried to end the program with sys.exit({getattr(error, 'code', 0)!r})"
        text += ": finished results are kept; repair the plug-in"
        if isinstance(cause, OSError):
            why = cause.strerror or first_line(cause)
            text = f"{cause.filename}: {why}: correct the path, its permissions or the space there"
            if not cause.filename:
                _discard(sys.stdout)
                text = f"the output cannot be written ({why}): finished results are kept"
                if isinstance(cause, BrokenPipeError):
                    raise OutputClosed(text) from error
        raise PudleError(text) from error


class Commands(click.Group):
    """A group whose commands are the entry points of ``pudle.commands``; each is loaded when it is
    used.
    """

    # The base class hides why an output cannot be written.
    make_context = one_line_errors()(click.Group.make_context)
    invoke = one_line_errors()(click.Group.invoke)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it, or None if there is none of that name.

        Raises
        ------
        PudleError
            If it cannot be loaded, or is no command; the text names the package that brings it.
        """
        if not (point := points().get(cmd_name)):
            return None
        try:
            command = point.load()
            if not isinstance(command, click.Command):
                raise TypeError(f"{point.value} is not a command")
        except (Exception, SystemExit) as error:
            owner = names.owner(point)
            raise PudleError(
                f"command {cmd_name!r} of {owner} cannot be loaded ({first_line(error)}): repair"
                f" {owner} or install it again"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(point)) for name, point in sorted(points().items())])


def points() -> dict[str, EntryPoint]:
    """Return the entry points of the commands by name; a plug-in's never takes the place of one
    that is built in.
    """
    return {point.name: point for point in reversed(names.points("commands"))}


def summary(point: EntryPoint) -> str:
    """Return the first paragraph of a command's docstring, read from its source, because importing
    it may take seconds; a package of others is not even looked for.

    Of its commands the text says whose they are. It is empty for a command without a docstring.
    """
    package = names.owner(point)
    if package != names.PACKAGE:
        return f"A command of {package}."
    folder, _, module = point.module.rpartition(".")
    for node in ast.parse(files(folder).joinpath(f"{module}.py").read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == point.attr:
            return (ast.get_docstring(node) or "").partition("\n\n")[0]
    return ""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pudle")
def pudle() -> None:
    """Benchmark hypergradients: gradient estimators for bilevel losses that depend on an unrolled
    inner algorithm.

    \b
    Example:
      pudle run --profile quick && pudle report
    """


def main() -> None:
    """Run the command line and end the process with its exit code; an error is one line on stderr
    and exit code 2.

    For the whole process, SIGTERM becomes KeyboardInterrupt, and the package logs errors alone.
    """
    # SIGTERM, by which schedulers and containers end a program, lets it clean up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Commands show their progress, and their workers would each announce that they compile.
    logging.getLogger("pudle").setLevel(logging.ERROR)
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run the command line, with the arguments of the process unless others are given, and return
    the exit code.

    It is the command's own, 0 where it has none, and 2 for wrong usage, for an error, which is
    printed on stderr in one line, for an interruption, for a pipe that nobody reads any more, of
    which nothing is said, and for a crash of this package, whose traceback is printed.
    """
    try:
        code = pudle.main(arguments, standalone_mode=False)
        if sys.stdout:
            with one_line_errors():
                sys.stdout.flush()
        return code or 0
    except click.exceptions.NoArgsIsHelpError as error:
        # A call without a command gets the help instead of an error of one line.
        click.echo(error.format_message(), err=True)  # noqa: TID251
        return USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        return fail(removal_advice(arguments or sys.argv[1:]) or error.format_message() + hint)
    except OutputClosed:
        # Whoever reads has seen enough, as with `pudle list experiments | head`.
        return USAGE
    except PudleError as error:
        return fail(str(error))
    except (KeyboardInterrupt, click.Abort):
        return fail("interrupted: what is stored is kept; run again (a training with --resume)")
    except UnicodeEncodeError as error:
        return fail(f"{error.object!r:.80} is no text: correct the argument")
    except Exception as error:  # noqa: BLE001
        if line := names.users_error(error):
            return fail(line)
        # Python's exit code for a crash is 1, which here means a regression.
        with suppress(OSError):
            traceback.print_exc()
        return USAGE


def removal_advice(words: list[str]) -> str:
    """Return the advice on a removed command or option that was typed; empty if none was.

    `words` are the arguments of the command line.
    """
    typed = [word.partition("=")[0] for word in words]
    for removed, instead in GONE.items():
        command, *options = removed.split()
        if typed[:1] == [command] and {*options} <= {*typed}:
            return f"`pudle {removed}` went with version {__version__}: {instead}"
    return ""


def _discard(stream: TextIO) -> None:
    """Lead a stream to the null device: what the interpreter still holds back for it must not fail
    once more when the program ends.
    """
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(message: str) -> int:
    """Print one line on stderr, if that is possible, and return the exit code 2, that of wrong
    usage or a broken run.

    The message loses its line ends, and what is beyond 5000 characters.
    """
    try:
        line = f"pudle: error: {printable(' '.join(message.split())):.5000}"
        click.echo(line, err=True)  # noqa: TID251
    except OSError:
        _discard(sys.stderr)
    return USAGE
