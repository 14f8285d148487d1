"""Where the repository and the shared test data are."""

from __future__ import annotations

import os
from pathlib import Path

#: The root of the repository.
ROOT = Path(__file__).resolve().parents[2]
#: The scripts of the site's gallery.
GALLERY = sorted((ROOT / "examples" / "gallery").glob("*.py"))
#: Image sets and published numbers that are not part of the repository; tests that need them skip
#: where they are absent.
SHARED = Path(os.environ.get("PUDLE_SHARED", ROOT.parent / "shared"))
