"""Who imports whom: the table in CONTRIBUTING.md is read and held against the real imports, and no
modules form a circle.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

import pytest
from paths import ROOT

#: Where the folders of the repository are installed.
PACKAGES = {
    "src/pudle/": "pudle",
    "estimators/": "pudle.estimators",
    "datasets/": "pudle.datasets",
    "bench/": "pudle.bench",
    "reports/": "pudle.reports",
    "tests/": "tests",
}


def module_of(path: str) -> str:
    """Return the name under which a file of the repository is imported."""
    folder = next(folder for folder in PACKAGES if path.startswith(folder))
    parts = path.removeprefix(folder).removesuffix(".py").split("/")
    return ".".join([PACKAGES[folder], *(part for part in parts if part != "__init__")])


def sources() -> dict[str, str]:
    """Return the text of every Python file of the six folders, by its path from the root."""
    files = [file for folder in PACKAGES for file in sorted((ROOT / folder).rglob("*.py"))]
    return {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}


def imports_in(path: str, text: str, at_import: bool) -> Iterator[str]:
    """Yield the dotted names that a file imports; what only type checkers read is left out.

    With `at_import`, only what runs when the file is imported: functions are left out.
    """
    package = module_of(path).split(".")
    if not path.endswith("/__init__.py"):
        package = package[:-1]
    nodes: list[ast.AST] = [ast.parse(text)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            nodes += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            yield from (
                ".".join([*start, *filter(None, [node.module]), alias.name]) for alias in node.names
            )
        elif not (
            at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        ):
            nodes += ast.iter_child_nodes(node)


def packages_around(path: str) -> list[str]:
    """Return the packages that hold a module, the outermost first."""
    parts = module_of(path).split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def edges(files: Mapping[str, str], at_import: bool, of: Iterable[str] = ()) -> dict[str, set[str]]:
    """Return for each file, or for those named in `of`, the files of the repository that it
    imports.
    """
    paths = {module_of(path): path for path in files}
    # pytest puts tests/ on the path.
    paths |= {
        name.rpartition(".")[2]: path for name, path in paths.items() if path.startswith("tests/")
    }
    found: dict[str, set[str]] = {}
    for path in of or files:
        names = list(imports_in(path, files[path], at_import))
        # `from package import name` names a module, or something that the package's own file holds.
        owners = [paths.get(name) or paths.get(name.rpartition(".")[0]) for name in names]
        # Python runs the packages around an imported module first, but for those that are being
        # imported already.
        outer = {
            paths.get(name) for owner in filter(None, owners) for name in packages_around(owner)
        }
        around = {paths.get(name) for name in packages_around(path)} if at_import else outer
        found[path] = {owner for owner in {*owners, *outer - around} if owner} - {path}
    return found


def table() -> dict[str, str]:
    """Return the table of CONTRIBUTING.md: the rooms from top to bottom, each with what it may
    import.
    """
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (`[^|]+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    return {room: allowed for rooms, allowed in rows for room in re.findall(r"`([^`]+)`", rooms)}


def room_of(path: str, rooms: Mapping[str, str]) -> str:
    """Return the row of the table that a file belongs to: the longest one that its path begins
    with.
    """
    return max((room for room in rooms if path.startswith(room.removesuffix("*.py"))), key=len)


def forbidden(files: Mapping[str, str], of: Iterable[str] = ()) -> list[str]:
    """Return the imports that the table does not allow, of all files or of those named in `of`."""
    rooms = table()
    order = list(rooms)
    lines = []
    for path, imported in edges(files, at_import=False, of=of).items():
        mine = room_of(path, rooms)
        for other in sorted(imported):
            theirs = room_of(other, rooms)
            if theirs == mine != "tests/":
                continue
            allowed = {
                "nothing": False,
                "the core": theirs.startswith("src/"),
                "the rows above": order.index(theirs) < order.index(mine),
                "everything": not re.search(r"/test_\w+\.py$", other),
            }[rooms[mine]]
            if not allowed:
                lines.append(f"{path} imports {other}")
    return lines


def circles(files: Mapping[str, str]) -> list[list[str]]:
    """Return the groups of files that import each other when they are imported (Tarjan's
    algorithm).
    """
    graph = edges(files, at_import=True)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_the_table_has_a_row_for_every_room():
    rooms = table()
    packages = {
        f"{file.parent.relative_to(ROOT).as_posix()}/"
        for file in (ROOT / "src/pudle").glob("*/__init__.py")
    }
    assert packages | set(PACKAGES) - {"src/pudle/"} <= set(rooms)
    for room in rooms:
        assert any((ROOT).glob(room.rstrip("/"))), f"{room} does not exist"


def test_no_import_goes_against_the_table():
    files = sources()
    assert sum(map(len, edges(files, at_import=False).values())) > 300, "the imports are not found"
    assert not forbidden(files)


def test_no_modules_form_a_circle():
    assert not circles(sources())


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("src/pudle/problems/problem.py", "from ..algorithms.ista import Ista"),
        ("src/pudle/references/lasso.py", "def late():\n    from pudle.measuring import store"),
        ("src/pudle/measuring/store.py", "import pudle.reports.load"),
        ("src/pudle/errors.py", "from .problems import Problem"),
        (
            "estimators/alternating.py",
            "from pudle.estimators.backprop import Backprop\nfrom pudle.reports import text",
        ),
        ("datasets/digits.py", "from pudle.estimators.backprop import Backprop"),
        ("bench/cases.py", "from pudle.reports.load import load"),
        ("reports/load.py", "from pudle.bench.cases import PROFILES"),
        (
            "src/pudle/learning/learner.py",
            "try:\n    from pudle.bench import cases\nexcept ImportError:\n    pass",
        ),
        ("tests/test_specs.py", "from test_imports import table"),
    ],
)
def test_a_planted_arrow_is_caught(path, line):
    files = sources()
    found = forbidden(files | {path: files[path] + f"\n{line}\n"}, of=[path])
    assert found and all(text.startswith(f"{path} imports ") for text in found)


def test_a_planted_circle_is_caught():
    files = sources()
    path = "src/pudle/problems/active_set.py"
    (circle,) = circles(files | {path: files[path] + "\nfrom .sparse_coding import SparseCoding\n"})
    assert path in circle and "src/pudle/problems/sparse_coding.py" in circle


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("src/pudle/learning/learner.py", "from .matching import x", ["pudle.learning.matching.x"]),
        (
            "src/pudle/references/lasso.py",
            "from ..learning.learner import x",
            ["pudle.learning.learner.x"],
        ),
        ("src/pudle/references/lasso.py", "from .. import learning", ["pudle.learning"]),
        ("src/pudle/problems/__init__.py", "from .l1 import x", ["pudle.problems.l1.x"]),
        ("src/pudle/cli.py", "import pudle.learning.learner", ["pudle.learning.learner"]),
        (
            "src/pudle/cli.py",
            "try:\n    from .learning import x\nexcept ImportError:\n    pass",
            ["pudle.learning.x"],
        ),
        ("src/pudle/cli.py", "if TYPE_CHECKING:\n    from .learning import x", []),
        ("src/pudle/cli.py", "def late():\n    from .learning import x", []),
        ("src/pudle/cli.py", "class Now:\n    from .learning import x", ["pudle.learning.x"]),
        ("reports/load.py", "import numpy\nfrom numpy import linalg", ["numpy.linalg", "numpy"]),
    ],
)
def test_imports_are_found_however_they_are_written(path, text, expected):
    assert list(imports_in(path, text, at_import=True)) == expected
