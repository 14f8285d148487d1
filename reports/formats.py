"""The formats that `pudle report` writes; nothing here is slow to import."""

#: Endings of the files by format, in the order in which they are written; the page comes last.
ENDINGS = {"markdown": "md", "csv": "csv", "latex": "tex", "html": "html"}
#: Formats of figures.
DRAWN = ("svg", "pdf", "png")
FORMATS = (*ENDINGS, *DRAWN)
#: What is written where nothing is asked for.
DEFAULT = ("html", "markdown", "csv")
