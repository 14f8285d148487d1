"""`pudle init-plugin`: the repository it writes, the estimator in it, and its gate."""

import runpy
import tomllib
from types import SimpleNamespace

import commands
import pytest
from repositories import git

from pudle.errors import InvalidArgument
from pudle.sharing.plugin import write_plugin


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin") / "my-window"
    write_plugin("my_window", folder, "pudle>=0.1")
    return folder


def test_every_file_is_there_and_none_is_a_template(plugin):
    files = {
        path.relative_to(plugin).as_posix(): path.read_text()
        for path in plugin.rglob("*")
        if path.is_file()
    }
    assert set(files) == {
        ".github/workflows/gate.yml",
        ".gitignore",
        "README.md",
        "my_window.py",
        "pyproject.toml",
        "tests/test_my_window.py",
    }
    assert not [name for name, text in files.items() if "[[ " in text or "[%" in text]
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["dependencies"] == ["pudle>=0.1"]
    assert project["entry-points"] == {"pudle.estimators": {"my_window": "my_window:MyWindow"}}


def test_its_own_tests_pass(plugin, monkeypatch):
    monkeypatch.syspath_prepend(plugin)
    tests = runpy.run_path(str(plugin / "tests" / "test_my_window.py"))
    for name in [name for name in tests if name.startswith("test_")]:
        tests[name]()


@pytest.mark.parametrize(
    "name, reason",
    [
        ("class", "is no name for a module"),
        ("backprop", "is the name of another estimator"),
        ("torch", "is the name of another estimator or of a module"),
    ],
)
def test_names_that_cannot_be_used_are_refused(name, reason, tmp_path):
    with pytest.raises(InvalidArgument, match=reason):
        write_plugin(name, tmp_path / "out", "pudle")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(plugin):
    before = (plugin / "README.md").read_text()
    with pytest.raises(InvalidArgument, match="is there already"):
        write_plugin("my_window", plugin, "pudle")
    assert (plugin / "README.md").read_text() == before


def test_its_gate_gets_pudle_from_where_it_is(tmp_path, monkeypatch):
    """An index may not have it: an address, a folder, or the commit that is installed."""
    address = "git+https://example.org/pudle"
    (tmp_path / "checkout").mkdir()
    installed = {
        "": "pudle",
        '{"url": "file:///checkout", "dir_info": {"editable": true}}': "pudle",
        '{"url": "https://example.org/pudle", "vcs_info": {"vcs": "git", "commit_id": "c0"}}': (
            f"pudle @ {address}@c0"
        ),
    }
    given = {
        address: f"pudle @ {address}",
        "checkout": f"pudle @ {(tmp_path / 'checkout').as_uri()}",
        f"pudle @ {address}@main": f"pudle @ {address}@main",
        "pudle>=0.1": "pudle>=0.1",
    }

    def needed(stated, *options):
        package = SimpleNamespace(read_text=lambda name: stated)
        monkeypatch.setattr("importlib.metadata.distribution", lambda name: package)
        folder = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        done = commands.call("init-plugin", "my_window", "--out", folder, *options, cwd=tmp_path)
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        return project["dependencies"], "--pudle git+ADDRESS" in done.stderr

    for stated, expected in installed.items():
        assert needed(stated) == ([expected], "file:" in stated)
    for source, expected in given.items():
        assert needed(stated, "--pudle", source) == ([expected], False)


#: A change of the estimator's last lines, and what the gate says of it.
PLANTED = {
    "slow": (
        "        gradient, codes = unrolled",
        "        unrolled_gradient(problem, algorithm, state, layers)\n",
        "time of",
    ),
    "wrong": ("        return Estimate(", "        gradient = 1.02 * gradient\n", "accuracy of"),
    "unchanged": ("", "", ""),
}


@pytest.mark.nightly
def test_its_gate_names_a_slow_down_and_an_error_of_two_percent_and_is_quiet_otherwise(tmp_path):
    folder = tmp_path / "my-window"
    write_plugin("my_window", folder, "pudle")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "base")
    command = "compare main HEAD --run --only --estimator my_window --minutes 20"
    command += " --case sparse_gaussian-ista-* --depth 10 --depth 100"
    for name, (before, line, said) in PLANTED.items():
        git(folder, "checkout", "-qB", name, "main")
        module = folder / "my_window.py"
        if before:
            module.write_text(module.read_text().replace(before, line + before))
        git(folder, "commit", "-q", "--allow-empty", "-am", name)
        done = commands.run(*command.split(), cwd=folder, path=folder, seconds=1800)
        assert done.returncode == int(bool(before)), f"{name}: {done.stdout}{done.stderr}"
        if before:
            assert done.stdout.startswith(f"regression: {said} my_window"), done.stdout
