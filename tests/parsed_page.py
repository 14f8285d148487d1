"""A page of the report, parsed."""

from html.parser import HTMLParser

ADDRESSES = ("src", "href", "xlink:href", "data", "action")


class ParsedPage(HTMLParser):
    """What a browser would fetch and run, and the language, the ids and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.handlers, self.language, self.text = [], [], [], None, ""
        self.feed(text)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ADDRESSES]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag == "html":
            self.language = dict(attributes).get("lang")

    def check(self):
        """Assert that ids are unique, and that links within the page lead somewhere."""
        assert len(self.ids) == len(set(self.ids))
        assert {link[1:] for link in self.links if link.startswith("#")} <= set(self.ids)
