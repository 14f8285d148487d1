"""`pudle init-plugin`."""

from pathlib import Path

import click

from ..terminal import echo


@click.command("init-plugin")
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the repository goes [default: NAME].",
)
@click.option(
    "--pudle",
    "requirement",
    default="pudle",
    show_default=True,
    metavar="REQUIREMENT",
    help="How the plug-in depends on pudle, e.g. 'pudle @ git+ADDRESS'.",
)
def init_plugin_command(name: str, out: Path | None, requirement: str) -> None:
    """Write a repository for an estimator of your own, with tests and a gate.

    The estimator in it works, so that everything can be tried before you write your own. The gate
    is a workflow for GitHub that judges every pull request: accuracy, time and memory, as a check
    and as a comment.

    \b
    Example:
      pudle init-plugin my_estimator
    """
    from .plugin import write_plugin

    folder = out or Path(name.replace("_", "-"))
    for path in write_plugin(name, folder, requirement):
        echo(path)
    echo(
        f"next: cd {folder} && git init && git add . && git commit -m 'First' && pip install -e"
        " '.[test]'"
    )
