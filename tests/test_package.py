"""The installed package: light to import, and alone under its one name."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import lazy_loader
from support.paths import ROOT

import pudle

#: The top-level folders that must not become top-level packages.
FOLDERS = ("bench", "datasets", "estimators", "reports", "tests")


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
pudle.audit
heavy = "pandas", "matplotlib", "seaborn", "sklearn", "numba", "asv", "click", "jinja2"
print([name for name in heavy if name in sys.modules])
"""
    assert run(code) == "[]\nTrue\n[]"


def test_an_audit_loads_little_beside_torch_numpy_and_scipy():
    """Processor time of one process, in which these are imported first."""
    code = """
import sys, time
start = time.process_time()
import torch, numpy, scipy
between = time.process_time()
before = {name.partition(".")[0] for name in sys.modules}
import pudle
pudle.audit
print((time.process_time() - start) / (between - start))
added = {name.partition(".")[0] for name in sys.modules} - before
print(*(name for name in added - sys.stdlib_module_names if name[0] != "_"))
"""
    ratio, added = run(code).splitlines()
    assert float(ratio) < 1.5 and {*added.split()} <= {"pudle", "lazy_loader", "threadpoolctl"}


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
    "templates": sum(path.is_file() for path in files("pudle.reports").rglob("templates/*")),
    "typed": files("pudle").joinpath("py.typed").is_file(),
}}))
"""


def test_all_of_it_is_installed_under_its_one_name(tmp_path):
    """As a wheel, without this environment's own packages, and beside one called `datasets` as
    Hugging Face's is.
    """
    # Building writes beside the sources.
    source, target = tmp_path / "source", tmp_path / "target"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", *FOLDERS[:-1]):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # All else that a bare import needs.
    shutil.copytree(Path(lazy_loader.__file__).parent, target / "lazy_loader")
    (target / "datasets").mkdir()
    (target / "datasets" / "__init__.py").write_text("load_dataset = 'the neighbor'\n")
    options = "--quiet --no-deps --no-index --no-build-isolation --disable-pip-version-check"
    install = [sys.executable, "-m", "pip", "install", *options.split(), "--target", target, source]
    subprocess.run(install, check=True, timeout=300)
    folders = {"pudle": ROOT / "src" / "pudle"}
    folders |= {f"pudle.{name}": ROOT / name for name in FOLDERS[:-1]}
    packages = [
        ".".join([package, *file.parent.relative_to(folder).parts])
        for package, folder in folders.items()
        for file in folder.rglob("__init__.py")
    ]
    code = ASKED.format(packages=packages, folders=FOLDERS)
    answer = json.loads(run(f"import site; site.addsitedir({str(target)!r})\n{code}", "-S"))
    points, templates = answer.pop("points"), answer.pop("templates")
    assert answer == {
        "neighbor": "the neighbor",
        "apart": True,
        "top": ["datasets"],
        "missing": [],
        "typed": True,
    }
    assert points > 40 and templates > 5
    (record,) = [path.read_text() for path in target.glob("*.dist-info/RECORD")]
    tops = {line.split("/")[0].split(",")[0] for line in record.splitlines()}
    assert not tops & {*FOLDERS, *(f"{name}.py" for name in FOLDERS)}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RECIPE = (ROOT / ".ci" / "conda" / "meta.yaml").read_text()


def test_the_recipe_for_conda_needs_what_the_package_needs():
    line = re.compile(r"^    - ([\w-]+) (>=?[\d.,<>=]+)$", re.MULTILINE)
    other = {"torch": "pytorch", "asv-runner": "asv_runner"}
    needed = (re.fullmatch(r"([\w-]+)(.*)", each) for each in PROJECT["project"]["dependencies"])
    assert dict(line.findall(RECIPE.partition("  run:")[2])) == {
        other.get(name, name): bounds for name, bounds in (each.groups() for each in needed)
    }


def test_what_mutations_change_and_the_tests_of_it_are_there():
    options, folders = PROJECT["tool"]["mutmut"], PROJECT["tool"]["setuptools"]["package-dir"]
    for path in options["pytest_add_cli_args_test_selection"]:
        assert (ROOT / path).exists(), path
    # `make mutation` copies the folders that install inside the package into it.
    for path in options["only_mutate"]:
        room = ".".join(Path(path).parts[1:3])
        source = str(Path(folders[room], *Path(path).parts[3:])) if room in folders else path
        assert [*ROOT.glob(source)], path
