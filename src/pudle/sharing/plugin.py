"""`pudle init-plugin`: write the repository of a plug-in from the templates beside this file."""

import keyword
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import msgspec

from ..errors import InvalidArgument
from ..files import write_atomically
from ..names import entries
from ..terminal import PATH, echo

#: What the gate of a plug-in measures: about a minute of processor time, see docs/results/gate.md.
GATE = "--only --estimator {name} --depth 10 --depth 100 --minutes 15"


@click.command("init-plugin")
@click.argument("name")
@click.option(
    "--out",
    type=PATH,
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


def write_plugin(name: str, folder: Path, requirement: str) -> list[Path]:
    """Write a repository with an estimator, tests, a gate and a README, and return its files.

    Parameters
    ----------
    name : str
        Name of the estimator, an identifier; its module and, with hyphens, its package are called
        the same.
    folder : Path
        Where the repository goes; it must be empty or not exist.
    requirement : str
        How the plug-in depends on pudle, as in ``dependencies`` of a ``pyproject.toml``.

    Raises
    ------
    InvalidArgument
        If the name is none for a module or is taken, or the folder holds something.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise InvalidArgument(
            f"{name!r} is no name for a module: use lower-case letters, digits and '_', as in"
            " my_estimator"
        )
    modules = sys.stdlib_module_names | metadata.packages_distributions().keys()
    if name in entries("estimators") or name in modules:
        raise InvalidArgument(
            f"{name!r} is the name of another estimator or of a module that is installed: choose"
            " another"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidArgument(
            f"{folder} is there already: choose another folder with --out, or empty it"
        )
    addresses = dict(
        line.partition(", ")[::2]
        for line in metadata.metadata("pudle").get_all("Project-URL") or []
    )
    values = {
        "label": "",
        "name": name,
        "title": "".join(part.capitalize() for part in name.split("_")),
        "package": name.replace("_", "-"),
        "requirement": requirement,
        "arguments": GATE.format(name=name),
        "documentation": addresses.get("Documentation", ""),
    }
    written = []
    for place, text in rendered(values):
        write_atomically(folder / place, text)
        written.append(folder / place)
    return written


class Origin(msgspec.Struct):
    """What an installer noted of where it got a package from."""

    url: str = ""
    vcs_info: dict[str, str] = {}


def installed_from() -> str:
    """Return the address of the commit or of the folder that pudle was installed from; empty for an
    index.
    """
    stated = metadata.distribution("pudle").read_text("direct_url.json")
    origin = msgspec.json.decode(stated or "{}", type=Origin)
    if version := origin.vcs_info:
        return f"{version['vcs']}+{origin.url}@{version['commit_id']}"
    return origin.url


def requirement(source: str) -> str:
    """Return how a package depends on pudle from a source: an address, a folder, a requirement, or
    nothing for an index.
    """
    if source and Path(source).is_dir():
        source = Path(source).resolve().as_uri()
    return f"pudle @ {source}" if "://" in source and " @ " not in source else source or "pudle"


def rendered(values: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every file of the repository, with the values in names and texts.

    In the name of a template, ``dot_`` stands for a dot, so that no tool takes a template for what
    it will become.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Braces are GitHub's: values stand in double brackets.
    environment = Environment(
        loader=PackageLoader(__package__, "templates/plugin"),
        variable_start_string="[[",
        variable_end_string="]]",
        block_start_string="[%",
        block_end_string="%]",
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    for template in environment.list_templates():
        place = environment.from_string(template).render(values).removesuffix(".j2")
        yield place.replace("dot_", "."), environment.get_template(template).render(values)
