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
    "source",
    metavar="SOURCE",
    help="Where the plug-in and its gate get pudle from: git+ADDRESS, a folder, or a requirement"
    " such as 'pudle>=0.1' [default: the commit that this pudle was installed from, or an index].",
)
def init_plugin_command(name: str, out: Path | None, source: str | None) -> None:
    """Write a repository for an estimator of your own, with tests and a gate.

    The estimator in it works, so that everything can be tried before you write your own. The gate
    is a workflow for GitHub that judges every pull request: accuracy, time and memory, as a check
    and as a comment.

    \b
    Examples:
      pudle init-plugin my_estimator
      pudle init-plugin my_estimator --pudle git+https://github.com/ME/pudle
    """
    from .plugin import installed_from, requirement, write_plugin

    folder, origin = out or Path(name.replace("_", "-")), source or installed_from()
    in_folder = not source and origin.startswith("file:")
    for path in write_plugin(name, folder, requirement("" if in_folder else origin)):
        echo(path)
    if in_folder:
        echo(
            "warning: this pudle was installed from a folder, and the gate will look for it on an"
            " index: if it is on none, write the repository with --pudle git+ADDRESS",
            err=True,
        )
    echo(
        f"next: cd {folder} && git init && git add . && git commit -m 'First' && pip install -e"
        " '.[test]'"
    )
