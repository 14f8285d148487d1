"""What docs/results/wrong_gradients.md says of published mistakes is what the audit says."""

import re
import runpy

import pytest
from support.page.document_runner import fits
from support.paths import ROOT

PAGE = (ROOT / "docs" / "results" / "wrong_gradients.md").read_text()
SHOWN = dict(re.findall(r"^### (.+?)$.*?^```text$\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
GALLERY = runpy.run_path(str(ROOT / "examples" / "audit" / "published.py"))["GALLERY"]


@pytest.mark.parametrize("name", GALLERY)
def test_published_mistakes(name) -> None:
    printed, lines = repr(GALLERY[name]()), SHOWN[name[0].upper() + name[1:]].splitlines()
    assert len(lines) == len(printed.splitlines()) and all(fits(line, printed) for line in lines), (
        printed
    )
