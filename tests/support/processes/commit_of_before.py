"""A commit of before as `compare --run` meets it: names, arguments and answers of its worker and of
its functions, copied from commit fda4ce36.
"""

from pathlib import Path

#: The transport and the answers of its worker, word for word.
WORKERS = '''
import os, pickle
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

class Outcome(NamedTuple, Generic[T]):
    """How a job ended: its result, or a status that is not ok with a reason, and the parts kept."""

    result: T
    status: str = "ok"
    reason: str = ""
    parts: Sequence[Any] = ()

def _send(connection, message):
    connection.send_bytes(pickle.dumps(message))

def work():
    connection = Connection(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _serve(connection, pickle.loads)

def _serve(connection, unpack):
    def tell(kind, content):
        _send(connection, (kind, content))

    with suppress(EOFError, OSError):
        while True:
            job = connection.recv_bytes()
            try:
                function, arguments = unpack(job)
                tell("started", None)
                tell("done", Outcome(function(*arguments)))
            except BaseException as error:
                tell("done", Outcome(None, "error", str(error)))
'''

#: The functions that are called in it, with its signatures; they answer with what they were given.
SCRIPT = """
import json
from pathlib import Path

def lacking(request):
    return {spec: f"unknown estimator {spec!r}" for spec in request["estimators"]}

def measure(request, home):
    if not request["cases"]:
        raise ValueError("nothing to measure")
    (Path(home) / "measured.json").write_text(json.dumps(request))

def seconds(path, cell, calls):
    name, estimator, depth = cell
    return depth / 1000 + calls if Path(path).name == "selection.json" else None
"""


def write_commit_of_before(site: Path) -> None:
    """Install a package with the protocol of the commit of before in a folder."""
    folder = site / "pudle" / "measuring" / "commits"
    folder.mkdir(parents=True)
    for parent in (folder, *folder.parents[:2]):
        (parent / "__init__.py").touch()
    (site / "pudle" / "workers.py").write_text(WORKERS)
    (folder / "script.py").write_text(SCRIPT)
