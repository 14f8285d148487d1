"""The `pudle` command. Its subcommands are entry points, so that the core need not import them."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click

from . import __version__
from .errors import PudleError

#: Exit code for wrong usage or a broken run; 1 means a regression or a failed check.
USAGE = 2


class Commands(click.Group):
    """A group whose commands are the entry points of ``pudle.commands``; each is loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry_points(group="pudle.commands").names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for point in entry_points(group="pudle.commands", name=cmd_name):
            try:
                return point.load()
            except ImportError as error:
                owner = point.dist.name if point.dist else "pudle"
                text = f"command {cmd_name!r} of {owner} cannot be loaded ({error}): install {owner} again"
                raise PudleError(text) from error
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(point.name, summary(point)) for point in sorted(entry_points(group="pudle.commands"))])


def summary(point: EntryPoint) -> str:
    """Return the first paragraph of a command's docstring, read from its source, because importing it may take seconds."""
    with contextlib.suppress(ImportError, OSError, SyntaxError, ValueError):
        spec = importlib.util.find_spec(point.module)
        for node in ast.parse(Path(spec.origin).read_text()).body if spec and spec.origin else ():
            if isinstance(node, ast.FunctionDef) and node.name == point.attr:
                return (ast.get_docstring(node) or "").partition("\n\n")[0]
    return ""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pudle")
def pudle() -> None:
    """Benchmark hypergradients: gradient estimators for bilevel losses that depend on an unrolled inner algorithm.

    \b
    Example:
      pudle run --profile quick && pudle report
    """


def main() -> None:
    """Run the command line; an error is one line on stderr and exit code 2."""
    try:
        sys.exit(pudle.main(standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        # A call without a command gets the help instead of an error of one line.
        click.echo(error.format_message(), err=True)
        sys.exit(USAGE)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        fail(error.format_message() + hint)
    except PudleError as error:
        fail(str(error))
    except OSError as error:
        # The system's refusal, such as a full disk or a folder that is not the user's, is no defect of the program.
        fail(f"{error.filename or 'the system'}: {error.strerror or error}: choose another folder, or make room and rights")
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted: finished results are kept; run again to continue")
    except Exception:  # noqa: BLE001  # Python's exit code for a crash is 1, which here means a regression
        traceback.print_exc()
        sys.exit(USAGE)


def fail(message: str) -> None:
    """Print one line on stderr and exit with the code for wrong usage or a broken run."""
    click.echo(f"pudle: error: {' '.join(message.split())}", err=True)
    sys.exit(USAGE)
