"""The map in docs/architecture.md: its paths exist, and its picture shows the rooms there are."""

import re
import runpy
import tomllib

from support.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PICTURE = ROOT / "docs" / "images" / "architecture.svg"


def test_every_path_on_the_map_exists():
    paths = re.findall(r"`((?:src|estimators|datasets|bench|reports|tests|docs)/[\w./]*)`", PAGE)
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_what_the_map_follows_is_numbered_and_every_step_of_it_names_what_acts():
    sections = dict(section.split("\n", 1) for section in re.split("^## ", PAGE, flags=re.M)[1:])
    for title in ("Follow one number", "Follow one audit"):
        _, *steps = re.split(r"^(?=\d+\. )", sections[title], flags=re.M)
        assert [int(step.split(".")[0]) for step in steps] == [*range(1, len(steps) + 1)]
        assert all("`" in step for step in steps)
    followed = set(re.findall(r"src/pudle/auditing/(\w+)\.py", sections["Follow one audit"]))
    modules = {path.stem for path in (ROOT / "src" / "pudle" / "auditing").glob("*.py")}
    # Tolerances, and one option of the command.
    assert modules - followed == {"__init__", "distances", "tightening"}


def test_the_picture_is_what_its_script_draws_of_rooms_in_the_order_of_the_contract():
    script = runpy.run_path(str(ROOT / "docs" / "images" / "architecture.py"))
    assert PICTURE.read_text() == script["draw"]()
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (order,) = [
        contract["layers"] for contract in contracts["contracts"] if contract["type"] == "layers"
    ]
    height = {
        room: place for place, layer in enumerate(order) for room in re.findall(r"\w+", layer)
    }
    bands = [[room for room, _ in rooms] for _, _, rooms in script["BANDS"]]
    # Rooms that the picture leaves out are small and lie low.
    assert {room for band in bands for room in band} <= height.keys() | {"auditing"}
    for above, below in zip(bands, bands[1:], strict=False):
        lowest = max(height[room] for room in above if room in height)
        assert all(lowest < height[room] for room in below if room in height), (above, below)
