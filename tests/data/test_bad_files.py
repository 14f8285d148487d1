"""Data files that hold no data: each is refused by `pudle run` in one line and with exit code 2,
before its numbers take time or memory.
"""

import io
import os
import signal
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.processes import commands
from support.processes.peak import peak_growth

import pudle

#: Bounds of one refusal, in seconds of the processor and in KiB of memory.
SECONDS, KIBIBYTES = 2.0, 1 << 20
#: Seconds after which a call that waits for a file is interrupted.
PATIENCE = 30
RANDOM = np.random.default_rng(0)
ROWS = RANDOM.standard_normal((40, 6))
IMAGES = RANDOM.random((12, 8, 8))
LABELS = np.arange(12) % 3
TOO_MANY_ROWS = 1 << 40


# Ways to write a file


def npy(values):
    """Write an .npy file of an array."""
    return lambda path: np.save(path, values, allow_pickle=True)


def npz(**arrays):
    """Write an .npz file of named arrays."""
    return lambda path: np.savez(path, **arrays)


def text(content):
    """Write a text or bytes."""
    return lambda path: path.write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def npy_header(shape, dtype="<f8"):
    """Return the beginning of an .npy file."""
    header = io.BytesIO()
    stated = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, stated)
    return header.getvalue()


def sparse_npy(shape):
    """Write an .npy file that is as long as its shape says, and takes no place on the disk."""

    def write(path):
        header = npy_header(shape)
        path.write_bytes(header)
        os.truncate(path, len(header) + 8 * shape[0] * shape[1])

    return write


def packed_npy(shape):
    """Write an .npz file of zeros that would take far more memory than the file is long."""

    def write(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("observations.npy", npy_header(shape) + bytes(1 << 20))

    return write


def pipe(path):
    """Make a pipe, which nobody writes to."""
    os.mkfifo(path)


def endless(path):
    """Make a link to a device that never ends."""
    path.symlink_to("/dev/zero")


def folder(path):
    """Make a folder."""
    path.mkdir()


def parquet(**columns):
    """Write a Parquet file of some columns."""
    return lambda path: pd.DataFrame(columns).to_parquet(path)


def image(mode, values):
    """Write an image of one mode."""
    return lambda path: Image.fromarray(values).convert(mode).save(path)


def large_image(side):
    """Write the head of a square bitmap."""

    def write(path):
        head = io.BytesIO()
        Image.new("RGB", (1, 1)).save(head, "bmp")
        content = bytearray(head.getvalue())
        content[18:26] = side.to_bytes(4, "little") * 2
        path.write_bytes(content)

    return write


def program(path):
    """Write a picture that is a program, under the name of another format."""
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


# Bad files by the dataset that reads them: the name of the file, what writes it, and what is said

TABLES = [
    ("data.csv", pipe, "is no regular file but a pipe"),
    ("data.npy", pipe, "is no regular file but a pipe"),
    ("data.npy", endless, "is no regular file but a pipe, a socket or a device"),
    ("data.csv", endless, "is no regular file but a pipe, a socket or a device"),
    ("data.csv", folder, "is a folder"),
    ("data.npy", text(b""), "cannot be read"),
    ("data.npy", text(b"\x93NUMPY\x09\x09"), "is of an unknown format (9, 9)"),
    ("data.npy", text(npy_header((TOO_MANY_ROWS, 6))), "it was cut or damaged"),
    ("data.npy", sparse_npy((1 << 27, 6)), "which is above"),
    ("data.npy", npy(ROWS + 1j), "holds complex128, not real numbers"),
    ("data.npy", npy(ROWS.astype(str)), "not real numbers"),
    ("data.npy", npy(np.array([{}], object)), "holds Python objects"),
    ("data.npy", npy(np.zeros(4, [("ä", float)])), "not real numbers"),
    ("data.npy", npy(np.where(ROWS < 2, ROWS, np.nan)), "missing or infinite values"),
    ("data.npy", npy(ROWS[0]), "has shape (6,)"),
    ("data.npy", npy(ROWS[:0]), "has shape (0, 6)"),
    ("data.npy", npy(ROWS[:1]), "1 row: too few"),
    ("data.npz", packed_npy((TOO_MANY_ROWS, 6)), "it was cut or damaged"),
    ("data.npz", npz(a=ROWS, b=ROWS), "keep one array, or call one 'observations'"),
    ("data.npz", text(b"PK\x03\x04"), "cannot be read"),
    ("data.csv", text("1,2\n3,4\n5,6,7\n"), "cannot be read"),
    ("data.csv", text("1,2\n" * 60_000 + "3,four\n"), "in column 1, not numbers"),
    ("data.csv", text('"' + "1," * 9_000), "cannot be read"),
    ("data.csv", text("1," * (1 << 15)), "columns, above"),
    ("data.csv", text("1" * (1 << 23)), "has a first line of more than"),
    ("data.csv", text(bytes(range(256)) * 40), "cannot be read"),
    ("data.tsv", text(""), "is empty"),
    ("data.parquet", parquet(a=["x", "y"]), "in column 'a', not numbers"),
    ("data.parquet", text(b"PAR1PAR1"), "cannot be read"),
]
MAPPED = [
    ("data.npy", pipe, "is no regular file but a pipe"),
    ("data.npy", text(npy_header((TOO_MANY_ROWS, 6))), "it was cut or damaged"),
    ("data.npy", sparse_npy((2, 1 << 30)), "which is above"),
    ("data.npy", npy(ROWS + 1j), "holds complex128, not real numbers"),
    ("data.npy", npy(ROWS[0]), "has shape (6,)"),
    ("data.npy", npy(ROWS[:1]), "1 row: too few"),
    ("data.npy", npy(np.full((9, 3), np.inf)), "missing or infinite values"),
]
PICTURES = [
    ("a.png", pipe, "an unreadable image, a.png (OSError: it is no regular file)"),
    ("a.png", endless, "an unreadable image, a.png (OSError: it is no regular file)"),
    ("a.png", folder, "an unreadable image, a.png (OSError: it is no regular file)"),
    ("a.png", text("no image"), "an unreadable image, a.png"),
    ("a.png", text(b""), "an unreadable image, a.png"),
    ("a.png", program, "an unreadable image, a.png"),
    ("a.bmp", large_image(12_000), "it has 12000 x 12000 pixels"),
    ("a.bmp", large_image(50_000), "2500000000 pixels"),
    ("a.tif", image("F", np.float32(IMAGES[0])), "its pixels are floating-point numbers"),
    ("a.tif", image("I", np.int32(9_000 * IMAGES[0] - 5_000)), "its pixels go from -"),
    ("a.txt", text("no image"), "is an empty image folder"),
]
CLASSES = [
    ("data", pipe, "is no regular file but a pipe"),
    ("data", endless, "is no regular file but a pipe, a socket or a device"),
    ("data", folder, "is a folder"),
    ("data", text(""), "is empty"),
    ("data", text("1 1:one\n"), "cannot be read"),
    ("data", text("1 2000000000:1\n0 1:1\n" * 4), "which is above"),
    ("data", text("1 1000000000000:1\n0 1:1\n" * 4), "cannot be read"),
    ("data", text("1 1:nan\n0 1:1\n" * 4), "has 4 features that are NaN or infinite"),
    ("data", text("nan 1:2\n0 1:1\n" * 4), "has 4 labels that are NaN or infinite"),
    ("data", text("1 1:2\n"), "has 1 class"),
    ("data", text("1 1:2\n0 1:1\n"), "has 2 rows"),
    ("data", text("1 1:2\n0 1:1\n2 1:1\n" * 4), "has 3 classes (labels 0, 1, 2)"),
    ("data", text("1 1:1\n0 1:1\n" * 4), "has no feature that varies"),
    ("data", text("1\n0\n" * 4), "holds no feature"),
    ("data", text("1 1:1e308\n0 1:-1e308\n" * 4), "too large to be standardized"),
]
ARRAYS = [
    ("data.npz", pipe, "is no regular file but a pipe"),
    ("data.npz", endless, "is no regular file but a pipe, a socket or a device"),
    ("data.npz", folder, "is a folder"),
    ("data.npz", npz(x_train=IMAGES), "holds x_train, and lacks images and labels"),
    ("data.npz", npz(images=IMAGES + 1j, labels=LABELS), "holds complex128, not real numbers"),
    ("data.npz", npz(images=IMAGES.astype(str), labels=LABELS), "not real numbers"),
    ("data.npz", npz(images=IMAGES - 0.5, labels=LABELS), "array 'images' has entries from -"),
    ("data.npz", npz(images=0 * IMAGES, labels=LABELS), "array 'images' has entries from 0"),
    ("data.npz", npz(images=IMAGES[:0], labels=LABELS[:0]), "has shape (0, 8, 8)"),
    ("data.npz", npz(images=IMAGES[:1], labels=LABELS[1:2]), "array 'labels' goes from 1 to 1"),
    (
        "data.npz",
        npz(images=np.inf * (IMAGES + 1), labels=LABELS),
        "entries that are NaN or infinite",
    ),
    ("data.npz", npz(images=IMAGES, labels=LABELS + 0.7), "that are no whole numbers"),
    ("data.npz", npz(images=IMAGES, labels=LABELS.astype(str)), "not real numbers"),
    ("data.npz", npz(images=IMAGES, labels=LABELS[:9]), "has shape (9,), and there are 12"),
    ("data.npz", npz(images=IMAGES, labels=np.arange(13)), "has shape (13,), and there are 12"),
    ("data.npz", npz(images=IMAGES, labels=np.eye(12)), "has shape (12, 12), and there are 12"),
    ("data.npz", npz(images=IMAGES, labels=10**9 * LABELS), "goes from 0 to 2000000000"),
    ("data.npz", npz(images=IMAGES, labels=LABELS - 1), "goes from -1 to 1"),
    ("data.npz", npz(images=IMAGES, labels=0 * LABELS), "goes from 0 to 0"),
]
DICTIONARIES = [
    ("data.npy", pipe, "is no regular file but a pipe"),
    ("data.csv", folder, "is a folder"),
    ("data.npy", npy(np.full((6, 9), np.nan)), "dictionary="),
    ("data.npy", npy(np.eye(7)), "dictionary has shape (7, 7)"),
]
#: The option that names the file or its folder, by dataset; a table beside it is ``rows.npy``.
SPECS = {
    "array(path='{file}')": TABLES,
    "memory_mapped(path='{file}')": MAPPED,
    "array(path='{folder}/rows.npy', dictionary='{file}')": DICTIONARIES,
    "image_patches(folder='{folder}')": PICTURES,
    "noisy_crops(folder='{folder}', size=9)": PICTURES[:3],
    "logistic(path='{file}')": CLASSES,
    "hyper_cleaning(path='{file}', n_samples=6, n_validation=3)": ARRAYS,
    "own.py(path='{file}')": [("data", pipe, "pipe"), ("data", endless, "device")],
}
BAD = [(spec, *case) for spec, cases in SPECS.items() for case in cases]
OWN = """
from pathlib import Path
import pudle
def problem(path: Path):
    path.read_bytes()
    return pudle.make_dataset("ridge").problem()
"""


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory):
    """Import what reading takes, which is no part of the time of a refusal."""
    place = tmp_path_factory.mktemp("good")
    for path, write in (("a.csv", text("1,2\n" * 40)), ("a.parquet", parquet(a=range(40)))):
        write(place / path)
        with pytest.raises(pudle.InvalidArgument):
            pudle.make_dataset(f"array(path={str(place / path)!r}, n_samples=1000)").problem()
    commands.call("run", "--only", "--dataset", "nothing", cwd=place)
    pudle.make_dataset("logistic").problem()


def impatient(*_):
    raise TimeoutError("the command waits for a file")


@pytest.mark.parametrize("spec, name, write, reason", BAD)
def test_a_bad_file_is_refused_at_once(spec, name, write, reason, tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    write(place / name)
    np.save(place / "rows.npy", ROWS)
    (tmp_path / "own.py").write_text(OWN)
    spec = spec.format(file=place / name, folder=place)
    command = ["run", "--only", "--scores-only", "--dataset", spec, "--estimator", "backprop"]
    done = []

    def refuse():
        start = time.process_time()
        done.append(commands.call(*command, cwd=tmp_path))
        done.append(time.process_time() - start)

    before = signal.signal(signal.SIGALRM, impatient)
    signal.alarm(PATIENCE)
    try:
        growth = peak_growth(refuse)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    ended, seconds = done
    assert (ended.returncode, ended.stdout) == (2, "")
    assert reason in ended.stderr and str(place) in ended.stderr
    assert ended.stderr.startswith("pudle: error: ") and ended.stderr.count("\n") == 1
    assert seconds < SECONDS and growth < KIBIBYTES


def test_a_folder_is_refused_before_all_that_lies_below_it_is_read(monkeypatch):
    """The files below the root are millions."""
    monkeypatch.setattr("pathlib.Path.rglob", lambda *_: pytest.fail("the folder was searched"))
    for spec in ("array(path='/')", "memory_mapped(path='/')", "logistic(path='/')"):
        with pytest.raises(pudle.InvalidArgument):
            pudle.make_dataset(spec).problem()


@pytest.mark.parametrize("mode", ["L", "I", "RGB", "1", "P", "LA"])
def test_images_of_every_usual_mode_are_still_read(mode, tmp_path):
    values = RANDOM.random((40, 40))
    if mode == "I":
        Image.fromarray(np.int32(65535 * values)).save(tmp_path / "a.tif")
    else:
        Image.fromarray(np.uint8(255 * values)).convert(mode).save(tmp_path / "a.png")
    spec = f"image_patches(folder={str(tmp_path)!r}, n_samples=5, n_components=5)"
    assert pudle.make_dataset(spec).problem().observations.shape == (5, 64)


def test_good_files_of_classes_and_images_are_still_read(tmp_path):
    (tmp_path / "a").write_text("+1 1:1 3:2\n-1 2:4\n" * 4)
    assert pudle.make_dataset(
        f"logistic(path={str(tmp_path / 'a')!r})"
    ).problem().initial.shape == (3,)
    np.savez(tmp_path / "a.npz", images=np.uint8(255 * IMAGES), labels=LABELS.astype(float))
    spec = f"hyper_cleaning(path={str(tmp_path / 'a.npz')!r}, n_samples=6, n_validation=3)"
    assert pudle.make_dataset(spec).problem().initial.shape == (64, 3)
