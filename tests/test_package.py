"""The installed package: light to import, and alone under its one name."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import lazy_loader
import numpy as np
import pytest
import yaml
from click.shell_completion import ShellComplete
from paths import ROOT

import pudle
from pudle.cli import pudle as program

#: The top-level folders that must not become top-level packages.
FOLDERS = ("bench", "datasets", "estimators", "reports", "tests")
SOURCES = ("src", *FOLDERS[:-1], "pyproject.toml", "README.md", "LICENSE")


def run(code, *arguments):
    """Run code in a fresh, isolated interpreter and return what it printed."""
    command = [sys.executable, "-I", *arguments, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_public_name_loads():
    for name in pudle.__all__:
        assert getattr(pudle, name) is not None


def test_importing_loads_nothing_and_leaves_random_state_and_defaults_alone():
    code = """
import sys, pudle
dir(pudle), pudle.__version__
print([name for name in ("torch", "numpy", "pandas", "seaborn") if name in sys.modules])
import torch
def state():
    flags = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    return *flags, torch.get_rng_state().tolist()
before = state()
pudle.list_estimators(), pudle.list_datasets(), pudle.SparseCoding
print(state() == before)
"""
    assert run(code) == "[]\nTrue"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy to build from, since building writes beside the sources."""
    if not (ROOT / "src").is_dir():
        pytest.skip("the sources are not here: nothing to build a package from")
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77")
    copy = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, source, tmp_path_factory):
    """A folder of installed packages that holds this one, and one called `datasets` as Hugging
    Face's is.
    """
    target = tmp_path_factory.mktemp(request.param)
    # All else that a bare import needs.
    shutil.copytree(Path(lazy_loader.__file__).parent, target / "lazy_loader")
    (target / "datasets").mkdir()
    (target / "datasets" / "__init__.py").write_text("load_dataset = 'the neighbor'\n")
    options = "--quiet --no-deps --no-index --no-build-isolation --disable-pip-version-check"
    command = [sys.executable, "-m", "pip", "install", *options.split(), "--target", str(target)]
    command += [*["--editable"] * (request.param == "editable"), str(source)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return target


#: What an installed package has, asked within it.
ASKED = """
import importlib.util, json, sys
from importlib.metadata import distribution
from importlib.resources import files

packages = {packages!r}
import datasets, pudle.datasets
print(json.dumps({{
    "neighbor": datasets.load_dataset,
    "apart": pudle.datasets is not datasets,
    "top": [name for name in {folders!r} if importlib.util.find_spec(name)],
    "missing": [name for name in packages if importlib.util.find_spec(name) is None],
    "points": len(distribution("pudle").entry_points),
    "templates": sum(path.is_file() for path in
                     files("pudle.sharing").joinpath("templates").rglob("*.j2")),
    "typed": files("pudle").joinpath("py.typed").is_file(),
}}))
"""


def test_all_of_it_is_installed_under_its_one_name(installed):
    """Without this environment's own packages, and beside a neighbor."""
    folders = {"pudle": ROOT / "src" / "pudle"}
    folders |= {f"pudle.{name}": ROOT / name for name in FOLDERS[:-1]}
    packages = [
        ".".join([package, *file.parent.relative_to(folder).parts])
        for package, folder in folders.items()
        for file in folder.rglob("__init__.py")
    ]
    code = ASKED.format(packages=packages, folders=FOLDERS)
    answer = json.loads(run(f"import site; site.addsitedir({str(installed)!r})\n{code}", "-S"))
    points, templates = answer.pop("points"), answer.pop("templates")
    assert answer == {
        "neighbor": "the neighbor",
        "apart": True,
        "top": ["datasets"],
        "missing": [],
        "typed": True,
    }
    assert points > 40 and templates > 5
    (record,) = [path.read_text() for path in installed.glob("*.dist-info/RECORD")]
    tops = {line.split("/")[0].split(",")[0] for line in record.splitlines()}
    assert not tops & {*FOLDERS, *(f"{name}.py" for name in FOLDERS)}


#: What a user writes: an estimator and an algorithm of one's own, and the two commands.
OWN_ESTIMATOR = """
from dataclasses import dataclass
import torch
from pudle import Estimate, GradientEstimator

@dataclass(frozen=True)
class Frozen(GradientEstimator):
    name, computes = "frozen", "direct"

    def estimate(self, problem, algorithm, depth):
        codes = algorithm.run(problem, depth).codes.detach()
        theta = problem.theta.detach().requires_grad_()
        loss = problem.with_theta(theta).outer_loss(codes)
        return Estimate(torch.autograd.grad(loss, theta)[0], codes)
"""
OWN_ALGORITHM = """
from dataclasses import dataclass
import pudle
from pudle.algorithms import State

@dataclass(frozen=True)
class Relaxed(pudle.Algorithm):
    weight: float = 0.9
    name = "relaxed"

    def advance(self, problem, state, step):
        moved = self.proximal_step(problem, state.point, step, state.iteration)
        codes = state.codes + self.weight * (moved - state.codes)
        return State(codes=codes, point=codes, iteration=state.iteration + 1)
"""
RUN = [
    *"run --home results --only --loss lasso --seeds 1 --depth 3 --workers 1".split(),
    *"--estimator own.py --estimator alternating --algorithm rules.py:Relaxed(weight=0.8)".split(),
    *"--dataset array(path='data.csv')".split(),
]


@pytest.mark.nightly
def test_own_estimator_algorithm_and_table_give_a_page_from_an_empty_folder(installed, tmp_path):
    """A wheel, outside any repository; the results hold no path to this place, and are read
    wherever they are copied to.
    """
    if any(installed.glob("__editable__*")):
        pytest.skip("the same for an editable install, which is what all other tests run on")
    here = tmp_path / "empty"
    here.mkdir()
    (here / "own.py").write_text(OWN_ESTIMATOR)
    (here / "rules.py").write_text(OWN_ALGORITHM)
    random = np.random.default_rng(0)
    table = (
        random.standard_normal((60, 8)) * (random.random((60, 8)) < 0.3)
    ) @ random.standard_normal((8, 6)) + 1e-3
    np.savetxt(here / "data.csv", table, delimiter=",", header="a,b,c,d,e,f", comments="")
    # A new installation would compile its kernels first.
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
        "PUDLE_KERNELS": "torch",
    }

    def pudle(*arguments, cwd):
        command = [sys.executable, "-P", "-m", "pudle", *arguments]
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
        )

    done = pudle(*RUN, cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 of 2 scores computed now, 2 ok, ")
    assert "times and memories measured now" in done.stdout
    assert "no git repository here" in done.stdout
    for path in (here / "results").rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path
    # What the two files compute is what they say: the estimator is the built-in of the same
    # formula.
    records = [
        json.loads(path.read_text())
        for path in (here / "results" / "quick" / "store").glob("array*-lasso*/*.json")
    ]
    errors = {record["estimator"]: record["scores"][0]["relative_error"] for record in records}
    assert errors["own.py:Frozen"] == pytest.approx(errors["alternating"], rel=1e-9)

    elsewhere = tmp_path / "artifact"
    shutil.copytree(here / "results", elsewhere / "results")
    report = pudle("report", "--home", "results", "--format", "html", cwd=elsewhere)
    assert report.returncode == 0, report.stderr
    page = (elsewhere / report.stdout.strip().splitlines()[-1]).read_text()
    assert "own.py:Frozen" in page and "rules.py:Relaxed(weight=0.8)" in page


def test_the_shell_completes_options():
    completions = ShellComplete(program, {}, "pudle", "_PUDLE_COMPLETE").get_completions(
        ["run"], "--est"
    )
    assert "--estimator" in [item.value for item in completions]


class TestPublishing:
    """What stands in several files says the same."""

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def test_the_recipe_for_conda_needs_what_the_package_needs(self):
        recipe = (ROOT / ".ci" / "conda" / "meta.yaml").read_text()
        listed = dict(
            re.findall(
                r"^    - ([\w-]+) (>=?[\d.,<>=]+)$", recipe.partition("  run:")[2], re.MULTILINE
            )
        )
        other = {"torch": "pytorch", "asv-runner": "asv_runner"}
        needed = dict(
            re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in self.project["dependencies"]
        )
        assert listed == {other.get(name, name): bounds for name, bounds in needed.items()}

    def test_versions_agree(self):
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        recipe = (ROOT / ".ci" / "conda" / "meta.yaml").read_text()
        assert (
            citation["version"] == pudle.__version__
            and f'version = "{pudle.__version__}"' in recipe
        )
        assert f"## {pudle.__version__}" in (ROOT / "CHANGELOG.md").read_text()

    def test_classifiers_name_the_tested_versions_of_python(self):
        tested = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"][
            "test"
        ]
        versions = {
            line.rpartition(" ")[2]
            for line in self.project["classifiers"]
            if "Python :: 3." in line
        }
        assert versions == set(tested["strategy"]["matrix"]["python"])
