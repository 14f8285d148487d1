"""A page of the report, parsed."""

from html.parser import HTMLParser

ADDRESSES = ("src", "href", "xlink:href", "data", "action")


class ParsedPage(HTMLParser):
    """What a browser would fetch and run, and the ids and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.handlers, self.text = [], [], [], ""
        self.feed(text)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ADDRESSES]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        self.ids += [value for name, value in attributes if name == "id"]

    def check(self):
        """Assert that ids are unique, and that links within the page lead somewhere."""
        assert len(self.ids) == len(set(self.ids))
        assert {link[1:] for link in self.links if link.startswith("#")} <= set(self.ids)
