"""``python -m pudle`` is the `pudle` command."""

from .cli import main

main()
