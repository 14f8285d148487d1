"""The site: built with every warning an error, it asks for nothing from elsewhere and holds every
page and public name.
"""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from support.page.documents import PAGES
from support.paths import GALLERY, ROOT

import pudle

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(
        importlib.util.find_spec("sphinx_gallery") is None,
        reason="needs pudle[site]: `make site`",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    options = ["-m", "sphinx", *"-W --keep-going -q -b html -d".split(), folder / "doctrees"]
    command = [sys.executable, *options, ROOT / "docs", folder / "html"]
    # As where it is published.
    published = os.environ | {"GITHUB_REF_TYPE": "tag"}
    done = subprocess.run(command, capture_output=True, text=True, env=published)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_nothing_is_fetched_from_elsewhere(site):
    elsewhere = r"(?:https?:)?//"
    loads = [
        rf'<(?:script|img|iframe|source)[^>]*\ssrc="{elsewhere}',
        rf'<link[^>]*rel="(?:stylesheet|pre\w+)"[^>]*href="{elsewhere}',
        rf"url\([\"']?{elsewhere}",
    ]
    fetched = re.compile("|".join(loads))
    pages = [path for pattern in ("*.html", "*.css") for path in site.rglob(pattern)]
    assert len(pages) > 30
    assert not [path.relative_to(site) for path in pages if fetched.search(path.read_text())]


def test_every_page_is_there_with_its_formulas_as_mathml(site):
    for page in PAGES:
        if page.startswith("docs/"):
            assert (site / page.removeprefix("docs/")).with_suffix(".html").is_file(), page
    text = (site / "estimators.html").read_text()
    assert text.count("<math") > 40 and not re.search(
        r"<script[^>]*(mathjax|katex)", text, re.IGNORECASE
    )


def test_every_script_of_the_gallery_has_its_page_and_its_picture(site):
    for script in GALLERY:
        assert (site / "gallery" / f"{script.stem}.html").is_file(), script
        assert (site / "_images" / f"sphx_glr_{script.stem}_001.png").is_file(), script


def test_a_published_page_knows_which_version_of_the_list_it_is(site):
    text = (site / "results" / "claims.html").read_text()
    assert f"theme_switcher_version_match = '{pudle.__version__}'" in text


def test_every_public_name_and_command_is_explained(site):
    names = (site / "api.html").read_text()
    for name in pudle.__all__:
        value = getattr(pudle, name)
        # Of a module, one of its functions.
        value = getattr(
            value, {"testing": "assert_gradient", "adapt": "from_jax"}.get(name, ""), value
        )
        assert name == "__version__" or f'id="{value.__module__}.{value.__name__}"' in names, name
    commands = (site / "commands.html").read_text()
    for name in ("run", "report", "compare", "check"):
        assert f"Usage: pudle {name}" in commands


def test_addresses_of_the_site_in_the_readme_are_links_within_it(site):
    text = (site / "index.html").read_text()
    assert 'href="results/claims.html"' in text and 'src="_images/quick.png"' in text
