"""Build of the site: `make site`. Pages are Markdown; what stands in the code is read from the
code.
"""

from __future__ import annotations

import inspect
import os
import re
import socket
import zlib
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from latex2mathml.converter import convert
from numpydoc.xref import DEFAULT_LINKS
from sphinx.util import logging

import pudle
from pudle.cli import pudle as program

ROOT = Path(__file__).parents[1]

project = "pudle"
author = "The pudle developers"
#: Where the site is published, a tag has its own folder and all else is "dev"; GitHub says which.
PUBLISHED = os.environ.get("GITHUB_REF_TYPE")
version = pudle.__version__ if PUBLISHED == "tag" else "dev"
release = pudle.__version__ if PUBLISHED == "tag" else f"{pudle.__version__}.dev0"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]

html_theme = "pydata_sphinx_theme"
html_title = f"pudle {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
}
if PUBLISHED:
    # The list of versions lies beside their folders: `.ci/release.py versions` writes it.
    html_theme_options |= {
        "navbar_start": ["navbar-logo", "version-switcher"],
        "switcher": {"json_url": "../versions.json", "version_match": version},
        "check_switcher": False,
        "show_version_warning_banner": True,
    }
#: Places where `make report` leaves a page, which the site links.
PAGES = {
    profile: ROOT / ".asv" / profile / "report" / "report.html"
    for profile in ("quick", "default", "paper")
}
COPIED = ROOT / "docs" / "_build" / "reports"
html_extra_path = [str(COPIED)]

#: Scripts that are run when the site is built, unless they have been since they changed.
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_srcset": ["2x"],
    "thumbnail_size": (640, 448),
    "capture_repr": (),
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
}

#: Types in docstrings link to other packages' sites. Where one cannot be reached, an empty list of
#: names serves, and they are plain text.
NO_NAMES = ROOT / "docs" / "_build" / "no_names.inv"
intersphinx_mapping = {
    name: (address, (None, str(NO_NAMES)))
    for name, address in {
        "python": "https://docs.python.org/3",
        "numpy": "https://numpy.org/doc/stable",
        "scipy": "https://docs.scipy.org/doc/scipy",
        "torch": "https://docs.pytorch.org/docs/stable",
        "pandas": "https://pandas.pydata.org/docs",
        "sklearn": "https://scikit-learn.org/stable",
    }.items()
}
intersphinx_timeout = 10
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
#: numpydoc links the types of Python by itself, in words that need Python's own list of names.
numpydoc_xref_aliases = dict(zip(DEFAULT_LINKS, DEFAULT_LINKS, strict=True)) | {
    "Tensor": "torch.Tensor",
    "array": "numpy.ndarray",
    "DataFrame": "pandas.DataFrame",
}
numpydoc_xref_aliases |= {
    name: f"{value.__module__}.{name}"
    for name in pudle.__all__
    if isinstance(value := getattr(pudle, name), type)
}

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
#: All checks but those that ask for sections or types that not every object needs, for another
#: layout than the linter's, or for the order of inherited fields.
numpydoc_validation_checks = {
    "all",
    "ES01",
    "EX01",
    "SA01",
    "SS06",
    "PR01",
    "RT01",
    "YD01",
    "GL01",
    "GL02",
    "GL07",
    "GL08",
    "PR03",
    "PR04",
    "PR07",
    "RT03",
}

linkcheck_anchors = False
linkcheck_timeout = 20


def fill(app: Any, docname: str, source: list[str]) -> None:
    """Fill in what a page takes from elsewhere: another file of the repository, or what stands in
    the code.
    """
    filled = {
        "python": _public_names,
        "commands": _commands,
        "pages": _pages,
        "more": _more,
        "estimators": _estimators,
    }
    text = re.sub(
        r"<!-- include: ([\w.]+) -->", lambda found: (ROOT / found[1]).read_text(), source[0]
    )
    text = re.sub(r"<!-- fill: (\w+) -->", lambda found: filled[found[1]](), text)
    # Badges come from elsewhere.
    text = re.sub(r"^\[!\[.*\n", "", text, flags=re.MULTILINE)
    # Links of files at the top, as seen from this folder; what is no part of the site is named
    # without a link.
    text = re.sub(r"\]\(docs/([\w/.]+(?:#[\w-]+)?)\)", r"](\1)", text).replace(
        "](CONTRIBUTING.md)", "](contributing.md)"
    )
    # A script is a page of the gallery here.
    text = re.sub(
        r"\]\((?:\.\./)*examples/gallery/(?:(\w+)\.py)?\)",
        lambda found: f"](/gallery/{found[1] or 'index'}.rst)",
        text,
    )
    source[0] = re.sub(
        r"\[([^\]]+)\]\((?:LICENSE|CITATION\.cff|asv\.conf\.json|[A-Z_]+\.md)\)", r"\1", text
    )


def _public_names() -> str:
    """Return a heading per room, and the public names in it."""
    parts, rooms = [], {}
    values = [getattr(pudle, name) for name in pudle.__all__]
    for module in filter(inspect.ismodule, [*values]):
        values.remove(module)
        values += [getattr(module, name) for name in module.__all__]
    for value in values:
        rooms.setdefault(value.__module__.split(".")[1], []).append(value)
    for room, values in sorted(rooms.items()):
        parts.append(f"## `pudle.{room}`\n")
        for value in values:
            kind = "autoclass" if isinstance(value, type) else "autofunction"
            members = "   :members:\n" if isinstance(value, type) else ""
            parts.append(
                f"```{{eval-rst}}\n.. {kind}:: {value.__module__}.{value.__name__}\n{members}```\n"
            )
    return "\n".join(parts)


def _commands() -> str:
    """Return every command with its help."""
    context = click.Context(program, info_name="pudle")
    parts = []
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        assert command is not None
        text = command.get_help(
            click.Context(command, parent=context, info_name=name, max_content_width=100)
        )
        parts.append(f"## pudle {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _pages() -> str:
    """Return a line per page of a run that `make report` left."""
    line = "- <a href='pages/{0}.html'>The page of the {0} profile</a>, as `pudle report` writes it"
    return "\n".join(line.format(profile) for profile in PAGES if _copied(profile))


def _estimators() -> str:
    """Return the docstring of every built-in estimator."""
    built_in = [
        cls for cls in pudle.list_estimators().values() if cls.__module__.startswith("pudle.")
    ]
    return "\n".join(
        f"```{{eval-rst}}\n.. autoclass:: {cls.__module__}.{cls.__name__}\n```\n"
        for cls in built_in
    )


def _more() -> str:
    """Return the pages that no table of contents names: each part of the project adds its own."""
    pages = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
    named = {line for text in pages.values() for line in text.splitlines()}
    return "\n".join(page for page in pages if page not in named and page != "index")


def _copied(profile: str) -> bool:
    return (COPIED / "pages" / f"{profile}.html").is_file()


def collect(app: Any) -> None:
    """Copy the pages of measured runs to where the build takes them from, and write the names of a
    site that cannot be reached: none.
    """
    (COPIED / "pages").mkdir(parents=True, exist_ok=True)
    head = "# Sphinx inventory version 2\n# Project: none\n# Version: none\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    NO_NAMES.write_bytes(head.encode() + zlib.compress(b""))
    for profile, path in PAGES.items():
        if path.is_file():
            (COPIED / "pages" / f"{profile}.html").write_bytes(path.read_bytes())


def leave_out_what_cannot_be_reached(app: Any) -> None:
    """Check links to other places only where this machine has a way there, and say so where it has
    none.
    """
    if app.builder.name != "linkcheck":
        return
    try:
        socket.create_connection(("github.com", 443), app.config.linkcheck_timeout).close()
    except OSError as error:
        logging.getLogger(__name__).warning(
            "skipped: links to other places, which cannot be reached from here (%s)", error
        )
        app.config.linkcheck_ignore = ["https?://"]


def plain(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Keep norms, products and final underscores of a docstring from being read as markup."""
    for number, line in enumerate(lines):
        # Names of parameters are numpydoc's to escape.
        special = (
            r"\||(?<=\w)_(?=[,)])"
            if re.match(r"\s*[\w*, ]+ : ", line)
            else r"\||(?<!\*)\*(?!\*)|(?<=\w)_(?!\w)"
        )
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [re.sub(special, r"\\\g<0>", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def skip(app: Any, what: str, name: str, value: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out the methods that scikit-learn adds to every class."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def formula(self: Any, node: Any) -> None:
    """Write a formula as MathML, which browsers show without a script."""
    kind = "block" if node.tagname == "math_block" else "inline"
    self.body.append(convert(node.astext(), display=kind))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    # Before the extensions look at the folder.
    collect(app)
    app.connect("builder-inited", leave_out_what_cannot_be_reached)
    app.connect("autodoc-process-docstring", plain, priority=400)
    app.connect("autodoc-skip-member", skip)
    app.connect("source-read", fill)
    app.add_html_math_renderer(
        "mathml", inline_renderers=(formula, None), block_renderers=(formula, None)
    )
