"""A page of the report, parsed."""

from __future__ import annotations

from html.parser import HTMLParser


class ParsedPage(HTMLParser):
    """What a browser would fetch, and what a screen reader would miss."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.ids, self.figures, self.language = [], [], [], [], None
        self.handlers, self.text = [], ""
        self.feed(text)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [
            value
            for name, value in attributes.items()
            if name in ("src", "href", "xlink:href", "data", "action")
        ]
        self.handlers += [name for name in attributes if name.startswith("on")]
        self.ids += [value for name, value in attributes.items() if name == "id"]
        if tag == "svg" and "aria-hidden" not in attributes:
            self.figures.append(attributes)
        if tag != "a":
            self.loaded += [value for name, value in attributes.items() if name in ("src", "href")]
        if tag == "html":
            self.language = attributes.get("lang")
