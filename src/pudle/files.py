"""Result files: they are written completely or not at all, and refused when damaged."""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .errors import UnreadableResult, UnwritableFile, first_line
from .text import all_printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
S = TypeVar("S")
#: Bytes up to which the data that one option names travel to other machines and count by their
#: contents; beyond, they lie where every machine finds them, and count by their size and time of
#: change.
MOST_TRAVELLING = 1 << 30
#: What to do about a file that cannot be used.
REMEDY = "delete it and run `pudle run` again"
OTHER_VERSION = "is not what this version of pudle reads"
#: Bytes of arrays that are refused; zeros take a thousandth of them in a file.
MOST_UNPACKED = 1 << 26
#: How the names of temporary folders begin.
TEMPORARY = "pudle-"
#: The file in each of them that tells it from what somebody else has called alike.
MARK = ".pudle-temporary"
#: How a record begins.
_HEAD = re.compile(rb'\{\n "digest": "([0-9a-f]{64})",')


#: What a file may hold: text, bytes, or text in parts.
Content = str | bytes | Iterator[str]


def write_atomically(path: Path, content: Content) -> None:
    """Write a file such that a reader sees either the old content or the new, never a part of it.

    Missing folders above it are made. Text is written in UTF-8. The temporary file beside it is
    removed, unless the process is killed: see `remove_leftovers`.

    Raises
    ------
    UnwritableFile
        If the disk is full, the folder cannot be written to or made, or the name is too long.
    """
    with write_together() as write:
        write(path, content)


@contextlib.contextmanager
def write_together() -> Iterator[Callable[[Path, Content], None]]:
    """Yield a function that writes files as `write_atomically` does, but for one thing: they take
    their places together, when the context is left without an error.
    """
    temporaries: dict[Path, Path] = {}

    def write(path: Path, content: Content) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with _unwritable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporaries[path] = temporary
            with temporary.open("wb") as file:
                for part in (content,) if isinstance(content, str | bytes) else content:
                    file.write(part.encode() if isinstance(part, str) else part)

    try:
        yield write
        for path, temporary in temporaries.items():
            with _unwritable(path):
                temporary.replace(path)
    finally:
        for temporary in temporaries.values():
            # A name that is too long cannot be removed either.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    """Raise UnwritableFile where the operating system refuses to write to a path."""
    try:
        yield
    except OSError as error:
        raise UnwritableFile(
            f"cannot write to {path} ({error.strerror}): choose another folder, make room, or move"
            " away what is in its place"
        ) from None


def cache_folder() -> Path:
    """Return this package's place in the user's folder for caches: below XDG_CACHE_HOME, or
    ``~/.cache``. It is not made.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pudle"


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or raise OSError: a pipe is waited for, and a device has no end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is no regular file")
    return path.open("rb")


def files_in(path: Path) -> list[Path]:
    """Return a file, or the files below a folder in order."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def is_large(path: Path) -> bool:
    """Tell whether the data that an option names stay where they are, see `MOST_TRAVELLING`."""
    return sum(file.stat().st_size for file in files_in(path)) > MOST_TRAVELLING


def state_of(path: Path) -> str:
    """Return the state that results depend on of a file or a folder that an option names: names of
    files with digests of their bytes or, of large data, sizes and times of change.
    """
    large = is_large(path)
    states = []
    for file in files_in(path):
        state = file.stat()
        how = f"{state.st_size} {state.st_mtime_ns}" if large else content_digest(file)
        states.append((file.relative_to(path.parent).as_posix(), how))
    return repr(states)


def content_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file's bytes; in a process it is read again only if its size
    or its time of change differ. OSError says that it is no regular file.
    """
    state = path.stat()
    return _content_digest(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 16)
def _content_digest(path: Path, size: int, changed: int) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what `write_atomically` left in a folder, or below it, when its process was killed.

    Temporary files of living processes stay.
    """
    for path in folder.rglob(".*.tmp"):
        # What has no such number is not one of ours; another user's process still writes.
        with contextlib.suppress(ValueError, OverflowError, PermissionError):
            try:
                os.kill(int(path.name.split(".")[-2]), 0)
            except ProcessLookupError:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder for temporary files and yield its path; it is removed, with its files, when the
    context is left.

    Those that other processes of this user left when they were killed are removed first.
    """
    sweep_temporary_folders()
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY))
    descriptor = _hold(folder)
    # From now on it is removed when nobody holds it.
    (folder / MARK).touch()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def sweep_temporary_folders() -> None:
    """Remove the temporary folders of this user that no process holds any more; what cannot be
    removed stays.
    """
    for mark in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*/{MARK}"):
        descriptor = _hold(mark.parent)
        if descriptor is not None:
            if os.fstat(descriptor).st_uid == os.getuid():
                shutil.rmtree(mark.parent, ignore_errors=True)
            os.close(descriptor)


def _hold(folder: Path) -> int | None:
    """Lock a folder, and return the descriptor that holds it: until it is closed or this process
    ends, however it does. Return None if another process holds it, or it is none or cannot be
    opened.

    The caller closes the descriptor.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def json_content(content: object) -> Any:
    """Return a content as JSON holds it: numpy's numbers become Python's, records become mappings,
    NaN and infinities None.

    TypeError, ValueError and AttributeError say that it holds something else.
    """
    return json.loads(json.dumps(content, default=plain), parse_constant=lambda _: None)


def plain(value: Any) -> object:
    """Return a record as a mapping, and a number of numpy as Python's: what JSON holds in place of
    a value that it does not.
    """
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return dict(value) if isinstance(value, Mapping) else value.item()


def lies_at(path: Path) -> bool:
    """Tell whether anything may lie at a path, be it a link that leads nowhere, or in a folder that
    cannot be read.

    It is False only where the system says that nothing does.
    """
    try:
        path.lstat()
    except (OSError, ValueError) as error:
        return not isinstance(error, FileNotFoundError | NotADirectoryError)
    return True


@contextlib.contextmanager
def readable(path: Path, remedy: str, failure: str = "cannot be read") -> Iterator[None]:
    """Raise UnreadableResult for whatever goes wrong in the context, in one line that names the
    file, the failure, its cause and the remedy.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001
        # numpy raises errors of a dozen kinds, depending on the damaged byte.
        raise UnreadableResult(
            f"{path} {failure} ({first_line(error) or 'it is empty'}): {remedy}"
        ) from None


def write_record(path: Path, record: object) -> None:
    """Write a dataclass or a msgspec Struct as indented JSON, atomically.

    The first line is the digest of all others, so that a reader notices whatever happens to them.
    NaN and infinities are written as null.

    Raises
    ------
    UnwritableFile
        If the file cannot be written.
    """
    body = json.dumps(json_content(record), indent=1)[1:]
    digest = hashlib.sha256(body.encode()).hexdigest()
    write_atomically(path, f'{{\n "digest": "{digest}",{body}')


def read_record(path: Path, kind: type[T], identity: object = None, remedy: str = REMEDY) -> T:
    """Read what `write_record` wrote; with an `identity`, that of the record must be the same, as a
    whole file may have been copied to another's place. The texts of a Struct are made printable.

    Raises
    ------
    UnreadableResult
        If a byte of the file has changed, or it is of another version; the text is one line that
        names the file and the remedy.
    """
    with readable(path, remedy), open_regular(path) as file:
        content = file.read()
        head = _HEAD.match(content)
        if not head or hashlib.sha256(content[head.end() :]).hexdigest().encode() != head[1]:
            raise ValueError("it was changed or cut" if head else "it has no digest")
    with readable(path, f"install the version that wrote it, or {remedy}", OTHER_VERSION):
        # A dataclass says what to measure: the paths in it may hold any character.
        plainly = b"\\" not in content and content.replace(b"\n", b"").decode().isprintable()
        if plainly or dataclasses.is_dataclass(kind):
            record = msgspec.json.decode(content, type=kind)
        else:
            record = msgspec.convert(all_printable(msgspec.json.decode(content)), kind)
    held: object = getattr(record, "identity", None)
    if identity is not None and held != identity:
        raise UnreadableResult(
            f"{path} holds the result of {held!r}, not of {identity!r}: {remedy}"
        )
    return record


def read_each(paths: Iterable[S], read: Callable[[S], T], damaged: list[str]) -> list[T]:
    """Read files with `read`, and return the contents of those that can be used, in order.

    Changes `damaged` in place: the text of each UnreadableResult is added to it, so that one
    damaged file does not hide the others. Other errors are raised.
    """
    contents = []
    for path in paths:
        try:
            contents.append(read(path))
        except UnreadableResult as error:
            damaged.append(str(error))
    return contents


def read_arrays(
    path: Path, names: Iterable[str], *, owner: Path | None = None
) -> "dict[str, NDArray[Any]]":
    """Read named arrays from an .npz result file, or raise UnreadableResult if it is damaged or
    lacks one.

    The error says to delete the file or, if given, its `owner`, the record that comes with the
    arrays. Those of an owner, which may come from others, take at most `MOST_UNPACKED` bytes.
    """
    import numpy as np

    # The file is opened here, because numpy does not close a damaged one.
    with (
        readable(path, f"delete {owner or 'it'} and run `pudle run` again"),
        open_regular(path) as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        # Arrays are stored (0) or deflated (8); other methods may unpack more than is stated.
        size = sum(
            member.file_size if member.compress_type in (0, 8) else MOST_UNPACKED
            for member in stored.zip.infolist()
        )
        if owner and size >= MOST_UNPACKED:
            raise ValueError(f"it takes {MOST_UNPACKED} bytes of memory or more")
        return {name: stored[name] for name in names}
