"""Result files: what is written, what is refused with which words, and what is swept away."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np
import pytest

from pudle import Ista, files
from pudle.errors import UnreadableResult

REMEDY = "delete it and run `pudle run` again"


class Record(msgspec.Struct):
    name: str
    depth: int


@pytest.mark.parametrize("content", ["ä\n", b"\x00\xff"])
def test_a_file_is_written_with_its_folders_and_leaves_nothing_else(content, tmp_path):
    path = tmp_path / "new" / "deeper" / "file"
    for _ in range(2):
        files.write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.rglob("*.tmp")) == list(tmp_path.rglob(".*")) == []


def test_strict_content_is_plain():
    content = {
        "a": np.float64("nan"),
        "b": [np.int32(3), float("-inf")],
        "c": MappingProxyType({"d": np.bool_(True)}),
    }
    assert files.json_content(content) == {"a": None, "b": [3, None], "c": {"d": True}}
    with pytest.raises(AttributeError):
        files.json_content({"a": Ista})


def test_a_record_comes_back_and_no_other_byte_passes_for_it(tmp_path):
    path = tmp_path / "record.json"
    files.write_record(path, Record("a", 3))
    assert files.read_record(path, Record) == Record("a", 3)
    content = path.read_bytes()
    assert content.startswith(b'{\n "digest": "') and json.loads(content)["depth"] == 3
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(UnreadableResult) as refused:
            files.read_record(path, Record)
        assert str(refused.value).startswith(f"{path} cannot be read (")
        assert str(refused.value).endswith(REMEDY)


def test_arrays_are_read_by_name_or_refused_in_one_line(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, one=np.arange(3), two=np.ones(2))
    assert files.read_arrays(path, ["one"])["one"].tolist() == [0, 1, 2]
    with pytest.raises(UnreadableResult, match="delete record.json and run"):
        files.read_arrays(path, ["three"], owner=Path("record.json"))
    # A pickle can do anything when it is loaded: numpy reads none here.
    np.savez(path, one=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UnreadableResult, match="allow_pickle=False"):
        files.read_arrays(path, ["one"])


def test_sweeping_removes_what_ended_processes_left(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = [tmp_path / f".a.json.{ended.pid}.tmp", tmp_path / "below" / f".b.{ended.pid}.tmp"]
    names = (f".c.{os.getpid()}.tmp", ".d.word.tmp", f".e.{10**30}.tmp", f"f.{ended.pid}.tmp")
    kept = [tmp_path / name for name in names]
    (tmp_path / "below").mkdir()
    for path in left + kept:
        path.write_text("")
    files.remove_leftovers(tmp_path)
    assert sorted(tmp_path.rglob("*.tmp")) == sorted(kept)


KILLED = """
import os, signal
from pudle.files import temporary_folder

with temporary_folder() as folder:
    (folder / "content").write_text("some")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_temporary_folder_whose_process_was_killed_is_swept_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    theirs = tmp_path / "pudle-checkout"
    theirs.mkdir()
    (theirs / "work").touch()
    subprocess.run([sys.executable, "-c", KILLED], check=False)
    (left,) = {*tmp_path.iterdir()} - {theirs}
    assert (left / "content").exists()
    with files.temporary_folder() as first, files.temporary_folder() as second:
        assert {*tmp_path.iterdir()} == {theirs, first, second}
    assert [*tmp_path.iterdir()] == [theirs] and [*theirs.iterdir()]


def test_files_that_are_written_together_all_take_their_places_or_none(tmp_path):
    first, second = tmp_path / "new" / "first", tmp_path / "second"
    second.write_text("old")
    with pytest.raises(ZeroDivisionError), files.write_together() as write:
        write(first, iter(["a", "b"]))
        write(second, "new")
        assert second.read_text() == "old"
        raise ZeroDivisionError
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [second]
    assert second.read_text() == "old"
    with files.write_together() as write:
        write(first, iter(["a", "b"]))
        write(second, b"new")
    assert (first.read_text(), second.read_text()) == ("ab", "new")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
