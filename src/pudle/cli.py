"""The `pudle` command. Its subcommands are entry points, so that the core need not import them."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import EntryPoint, entry_points

import click

from . import __version__
from .errors import PudleError

#: Exit code for wrong usage or a broken run; 1 means a regression or a failed check.
USAGE = 2


class Commands(click.Group):
    """A group whose commands are the entry points of ``pudle.commands``; each is loaded when it is used."""

    @property
    def points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group="pudle.commands")}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.points)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        point = self.points.get(cmd_name)
        try:
            return point.load() if point else None
        except ImportError as error:
            owner = point.dist.name if point and point.dist else "pudle"
            raise PudleError(f"command {cmd_name!r} of {owner} cannot be loaded ({error}): install {owner} again") from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pudle")
def pudle() -> None:
    """Benchmark gradient estimators for losses that depend on an unrolled inner algorithm.

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
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted: finished results are kept; run again to continue")
    except Exception:  # noqa: BLE001  # Python's exit code for a crash is 1, which here means a regression
        traceback.print_exc()
        sys.exit(USAGE)


def fail(message: str) -> None:
    """Print one line on stderr and exit with the code for wrong usage or a broken run."""
    click.echo(f"pudle: error: {' '.join(message.split())}", err=True)
    sys.exit(USAGE)
