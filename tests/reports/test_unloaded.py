"""Reading results loads no file, whatever a stored text says, and moves no terminal."""

import json
import shutil
from pathlib import Path

import pytest
from support.processes import commands
from support.processes.repositories import git, repository
from support.records.synthetic import training, write_every_kind, write_experiments, write_run

from pudle.files import write_record
from pudle.measuring.history import update_history
from pudle.reports.load import load
from pudle.reports.notebook.benchmark import BenchmarkResults

#: A file that leaves a mark whenever it is loaded.
FILE = "stranger/evil.py"
EVIL = "from pathlib import Path\nPath('mark').touch()\nraise RuntimeError\n"
#: Texts of which measuring makes objects; each becomes a class of that file wherever it stands.
SPECS = {
    "backprop": f"{FILE}:Backprop",
    "analytic": f"{FILE}:Analytic",
    "one_step": f"{FILE}:OneStep(depth=3)",
    "synthetic(n=10)": f"{FILE}:Data",
    "sparse_gaussian(n_samples=10)": f"{FILE}:Data(seed=1)",
    "ista(step=0.2)": f"{FILE}:Ista",
    "ista": f"{FILE}:Other",
    "adam": FILE,
    "constant": f"{FILE}:Schedule",
}
#: The title of the window, red, and a bell; text that runs from right to left.
ESCAPES = "\x1b]0;title\x07\x1b[31m\u202e\x9b2J"
READERS = (
    ("report", "--home", "home", "--format", "csv,html,latex,markdown"),
    ("report", "home/quick", "whole/quick", "--out", "both"),
    ("compare", "home/quick", "whole/quick"),
    ("compare", "whole/quick", "home/quick"),
)


def replaced(value):
    """Return a content with every text of `SPECS` replaced."""
    if isinstance(value, dict):
        return {key: replaced(each) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each) for each in value]
    return SPECS.get(value, value) if isinstance(value, str) else value


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A stored file of every kind, twice, beside a stranger's file; an estimator without scores is
    listed, and another has trained.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger").mkdir()
    (tmp_path / FILE).write_text(EVIL)
    write_every_kind(tmp_path / "whole")
    write_experiments(tmp_path / "whole", [training("four", "one_step", steps=2)])
    chosen = json.loads(Path("whole/quick/run.json").read_text())["selection"]
    chosen["estimators"].append("analytic")
    write_run(tmp_path / "whole" / "quick", selection=chosen)
    return Path(shutil.copytree("whole", "home"))


def test_no_reader_loads_what_stored_specs_name(home):
    for path in home.rglob("*.json"):
        content = json.loads(path.read_text())
        del content["digest"]
        write_record(path, replaced(content))
    assert [commands.call(*each).returncode for each in READERS] == [0, 0, 1, 1]
    results = load(home, "quick")
    assert SPECS["analytic"] in results.estimators
    assert results.experiments[0].estimator == SPECS["one_step"]
    BenchmarkResults(results, home).report("notebook.html")
    root = repository(Path.cwd())
    commit = git(root, "rev-parse", "HEAD")
    assert update_history(home.resolve() / "quick", root, commit) == []
    assert not Path("mark").exists()


def test_no_name_of_a_folder_moves_the_terminal(home):
    write_run(home / "quick", experiments={"long": "x" * 9999})
    home.rename(f"home{ESCAPES}")
    for arguments in READERS:
        done = commands.call(*(each.replace("home", f"home{ESCAPES}") for each in arguments))
        assert done.stdout + done.stderr and "Traceback" not in done.stderr
        assert max(map(len, done.stderr.split("\n"))) < 6000
        assert all(char.isprintable() or char == "\n" for char in done.stdout + done.stderr)
