"""Errors that arise in users' code: one line that says where."""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from ..errors import first_line
from ..workers import PLACE_FINDERS
from .grammar import shown_path
from .kinds import KINDS, OTHERS
from .registry import owner, points
from .user_files import PACKAGE, PREFIX, defines, is_of_a_file


def users_error(error: BaseException) -> str:
    """Return one line about an error that arose in the code of a user's file or a plug-in, or below
    it; empty for another error.
    """
    description = ": ".join(filter(None, [type(error).__name__, first_line(error)]))
    if places := [*_places_in_users_code(error)]:
        path, number = places[-1]
        return f"{description}, at {shown_path(path)}, line {number}: correct the code there"
    # A method that takes other arguments than it is given is not even entered.
    method = re.match(r"(\w+)\.\w+\(\)", first_line(error))
    if isinstance(error, TypeError) and method and defines(method[1]):
        return f"{description}: give the method the arguments of its base class's"
    return ""


def place_in_users_code(error: BaseException) -> str:
    """Return the last line of a user's file or of a plug-in that an error went through, as ``FILE,
    line 3``; an empty text if there is none.

    The file's name stands alone, so that what is stored of two folders or machines is the same.
    """
    places = [*_places_in_users_code(error)]
    return f"{places[-1][0].name}, line {places[-1][1]}" if places else ""


# So that whatever is stored about an error says it, in this process and in every worker.
PLACE_FINDERS.append(place_in_users_code)


def _places_in_users_code(error: BaseException) -> Iterator[tuple[Path, int]]:
    """Yield the paths and line numbers of users' files and of plug-ins that an error went through,
    the last of which is nearest to it.
    """
    plugins = {
        point.module.partition(".")[0]
        for group in (*KINDS, *OTHERS)
        for point in points(group)
        if owner(point) != PACKAGE
    }
    for frame, number in traceback.walk_tb(error.__traceback__):
        path, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__"))
        top_level = module.partition(".")[0]
        if is_of_a_file(path) or module.startswith(PREFIX) or top_level in plugins:
            yield Path(path), number
