"""What a release needs beside the build: `python .ci/release.py COMMAND`. It needs Python alone.

    check [TAG]              what speaks against a release: names, versions and dates that disagree
    notes                    the changelog's section of the version
    date                     write today's date where a release has one
    begin VERSION            begin the version after a release
    address OWNER/NAME MAIL  write where the project lives, and who answers
    readme                   make the README's links lead here from a package index
    versions SITES ADDRESS   list the versions of the site, each a folder of SITES

RELEASING.md says when.
"""

import datetime
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Every file that names the version, and how; the changelog's first section does too.
VERSIONED = {
    "src/pudle/__init__.py": r'^(__version__ = ")([^"]+)(")$',
    "CITATION.cff": r"^(version: )(\S+)()$",
    ".ci/conda/meta.yaml": r'^(.*set version = ")([^"]+)(".*)$',
}
#: Every page that says how to install from the repository, and the address there; a comment beside
#: it explains what ADDRESS stands for.
INSTALLING = ("README.md", "docs/start.md", "docs/gate.md")
INSTALLED_FROM = r'(pudle @ git\+)[^"\s]+(")(?:  # ADDRESS: .*)?'
SECTION = re.compile(r"^## (\S+), (\S+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BADGES = """\
[![tests]({source}/actions/workflows/tests.yml/badge.svg)]({source}/actions/workflows/tests.yml)
[![site]({source}/actions/workflows/site.yml/badge.svg)]({site})
[![Python 3.11 to 3.14](https://img.shields.io/badge/python-3.11_to_3.14-blue)]({source}/blob/main/pyproject.toml)
[![version](https://img.shields.io/pypi/v/pudle)]({source}/releases)
[![active](https://www.repostatus.org/badges/latest/active.svg)](https://www.repostatus.org/#active)

"""


def read(name: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / name).read_text()


def write(name: str, pattern: str, new: str | Callable[[re.Match[str]], str]) -> None:
    """Replace the one place of a file that matches."""
    text, count = re.subn(pattern, new, read(name), flags=re.MULTILINE)
    if count != 1:
        sys.exit(f"{name} has {count} places that match {pattern}: it should have one")
    (ROOT / name).write_text(text)


def section() -> tuple[str, str, str]:
    """Return the version of the changelog's first section, its date, and its text."""
    found = SECTION.search(read("CHANGELOG.md"))
    if found is None:
        sys.exit("CHANGELOG.md has no line '## VERSION, DATE'")
    return found[1], found[2], found[3].strip()


def contradictions(tag: str = "") -> list[str]:
    """Return what speaks against a release, or against one of that tag."""
    version, date, _ = section()
    found = []
    for name, pattern in VERSIONED.items():
        named = re.findall(pattern, read(name), re.MULTILINE)
        if [each[1] for each in named] != [version]:
            found.append(f"{name} does not name the version of CHANGELOG.md, {version}")
    dated = re.findall(r"^date-released: (\S+)$", read("CITATION.cff"), re.MULTILINE)
    if dated != [date] * (date != "unreleased"):
        found.append(f"CITATION.cff is dated {dated or 'nowhere'} and CHANGELOG.md {date}")
    if tag and tag != f"v{version}":
        found.append(f"the tag is {tag} and the version {version}")
    if tag and date == "unreleased":
        found.append(f"{version} has no date: run `python .ci/release.py date`")
    if tag and "urls" not in tomllib.loads(read("pyproject.toml"))["project"]:
        found.append("pyproject.toml has no address: run `python .ci/release.py address`")
    return found


def check(tag: str = "") -> None:
    """End with what speaks against a release."""
    sys.exit("\n".join(contradictions(tag)) or None)


def notes() -> None:
    """Print the changelog's section of the version."""
    print(section()[2])


def date() -> None:
    """Write today's date where a release has one."""
    today = datetime.date.today().isoformat()
    write("CHANGELOG.md", rf"^(## {re.escape(section()[0])}, )unreleased$", rf"\g<1>{today}")
    write("CITATION.cff", r"^(version: .*)$", rf"\1\ndate-released: {today}")


def begin(version: str) -> None:
    """Begin the version after a release."""
    write("CHANGELOG.md", rf"^(?=## {re.escape(section()[0])}, )", f"## {version}, unreleased\n\n")
    for name, pattern in VERSIONED.items():
        write(name, pattern, rf"\g<1>{version}\g<3>")
    write("CITATION.cff", r"^(version: .*\n)(?:date-released: .*\n)?", r"\1")


def address(repository: str, mail: str) -> None:
    """Write where the project lives, and who answers."""
    owner, name = repository.split("/")
    source, site = f"https://github.com/{repository}", f"https://{owner.lower()}.github.io/{name}/"
    urls = {"Documentation": site, "Source": source, "Issues": f"{source}/issues"}
    urls["Changelog"] = f"{source}/blob/main/CHANGELOG.md"
    lines = "".join(f'{key} = "{value}"\n' for key, value in urls.items())
    write(
        "pyproject.toml",
        r"^(authors = .*\"The pudle developers\").*$",
        rf'\1, email = "{mail}" }}]',
    )
    write(
        "pyproject.toml",
        r"^(?:\[project\.urls\]\n(?:\w.*\n)+\n)?(\[project\.optional-dependencies\])$",
        rf"[project.urls]\n{lines}\n\1",
    )
    code = f"repository-code: {source}"
    write("CITATION.cff", r"^(?:repository-code: .*\n)?(license: .*)$", rf"{code}\n\1")
    write(".ci/conda/meta.yaml", r'(set address = ")[^"]*', rf"\1{source}")
    write(
        "README.md",
        r"\A# pudle\n\n(?:\[!\[.*\n)*\n*",
        "# pudle\n\n" + BADGES.format(source=source, site=site),
    )
    for page in INSTALLING:
        write(page, INSTALLED_FROM, rf"\g<1>{source}\g<2>")


def readme() -> None:
    """Make links of the README lead to the files of this version from anywhere."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    source, tag = project["urls"]["Source"], f"v{section()[0]}"

    def absolute(found: re.Match[str]) -> str:
        kind = "raw" if found[1].startswith("!") else "blob"
        return f"{found[1]}({source}/{kind}/{tag}/{found[2]})"

    text = re.sub(r"(!?\[[^\]]*\])\((?!https?:|#)([^)]+)\)", absolute, read("README.md"))
    (ROOT / "README.md").write_text(text)


START = '<!doctype html><title>pudle</title><meta http-equiv="refresh" content="0; url={0}/">'


def versions(sites: str, address: str) -> None:
    """List the versions in a folder, name the newest release `stable`, and lead there."""
    folder, address = Path(sites), address.rstrip("/")
    names = {path.name for path in folder.iterdir() if path.is_dir()} - {"dev", "stable"}
    released = sorted(names, key=lambda name: [int(part) for part in name.split(".")], reverse=True)
    shown = {"dev": "dev"} | {name: name for name in released}
    start = "dev"
    if released:
        start, newest = "stable", released[0]
        shown[newest] = f"{newest} (stable)"
        shutil.copytree(folder / newest, folder / start)
    entries = [
        {
            "version": name,
            "name": title,
            "url": f"{address}/{name}/",
            "preferred": title != name,
        }
        for name, title in shown.items()
    ]
    (folder / "versions.json").write_text(json.dumps(entries, indent=1))
    (folder / "index.html").write_text(START.format(start))


COMMANDS = {each.__name__: each for each in (check, notes, date, begin, address, readme, versions)}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
