"""The page as tests read it: its text, and the data that it carries."""

import base64
import gzip
import json
import re

from pudle.reports.page import page


def html(*reports, names=None):
    """Return the page of some reports."""
    names = names or [report.results.profile for report in reports]
    return page.html(dict(zip(names, reports, strict=True)))


def data(text):
    """Return the data that a page carries."""
    (packed,) = re.findall(
        r'<script type="application/octet-stream" id="data">([^<]+)</script>', text
    )
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def rows(columns):
    """Return the rows of a figure, which the page carries by columns."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def texts(content, *hidden):
    """Yield every text of the data, however deep it lies, but for what some keys hold."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, (list, dict)):
        for key, item in content.items() if isinstance(content, dict) else enumerate(content):
            if key not in hidden:
                yield from texts(item, *hidden)
