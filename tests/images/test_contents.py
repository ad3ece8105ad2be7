"""What a file is, whatever its name says; what comes out of a decoder is that file's refusal."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from tests.helpers.pictures import page, tiff

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images.check import check_data
from synfoc.images.files import read_codes, read_geometry, read_image

VOLUME = np.arange(60, dtype=np.int16).reshape(4, 5, 3)
AFFINE = np.diag([1.0, 1, 3, 1])
READERS = (read_image, read_codes, read_geometry)


def nifti(kind: type = nib.Nifti1Image, data: np.ndarray = VOLUME) -> bytes:
    return kind(data, AFFINE).to_bytes()


def packed(data: bytes) -> bytes:
    """By gzip, without the time: parameters of a test are the same in every process."""
    return gzip.compress(data, mtime=0)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(VOLUME[..., 0].astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def npy(data: np.ndarray = VOLUME) -> bytes:
    file = io.BytesIO()
    np.save(file, data)
    return file.getvalue()


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_the_first_bytes_tell_whether_a_nifti_is_packed(tmp_path: Path, kind: type) -> None:
    """Renamed, or unpacked by a browser: SimpleITK reads the first, we both."""
    (tmp_path / "plain.nii.gz").write_bytes(nifti(kind))
    (tmp_path / "packed.nii").write_bytes(gzip.compress(nifti(kind)))
    (tmp_path / "Good.NII.GZ").write_bytes(gzip.compress(nifti(kind)))
    for name in ("plain.nii.gz", "packed.nii", "Good.NII.GZ"):
        stack = read_image(tmp_path / name)
        assert np.array_equal(np.sort(stack.pixels.ravel()), VOLUME.ravel())
        assert (stack.spacing, stack.pixels.shape) == ((3, 1, 1), (3, 5, 4))
        assert read_geometry(tmp_path / name).size == (3, 5, 4)
    if kind is nib.Nifti1Image:
        seen = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "plain.nii.gz"))
        assert np.array_equal(seen, VOLUME.T)


HTML = b"\n<!DOCTYPE html><html><body>404 not found</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 1234\n"
ANNEX = b"/annex/objects/MD5E-s1234--0a1b.nii.gz\n"
GIFTI = b'<?xml version="1.0"?>\n<!DOCTYPE GIFTI SYSTEM "gifti.dtd">\n<GIFTI Version="1.0">'
ANALYZE = (348).to_bytes(4, "little") + bytes(400)


@pytest.mark.parametrize(
    ("name", "content", "found", "fix"),
    [
        ("a.nii.gz", HTML, "a web page", "download the file again"),
        ("a.png", HTML, "a web page", "download the file again"),
        ("a.nii.gz", packed(HTML), "a web page (HTML), packed by gzip", "download"),
        ("a.npy", LFS, "a pointer of Git LFS", "git lfs pull"),
        ("a.nii.gz", ANNEX, "a pointer of git-annex", "git annex get"),
        ("a.nii", bytes(128) + b"DICM" + bytes(99), "a DICOM file", "dcm2niix"),
        ("a.nii", GIFTI, "a GIFTI file: surface data", "leave it out"),
        ("a.nii", ANALYZE, "an Analyze header", "convert both its files"),
        ("a.nii", b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file (MINC-2", "convert it"),
        ("a.nii", b"CDF\x01" + bytes(99), "a NetCDF file (MINC-1)", "convert it"),
        ("a.nii.gz", bz2.compress(nifti()), "a file packed by bzip2", "unpack it"),
        ("a.nii.gz", b"\x28\xb5\x2f\xfd" + bytes(9), "a file packed by zstd", "unpack it"),
        ("a.nii.gz", b"PK\x03\x04" + bytes(9), "a ZIP archive", "unpack it"),
        (
            "a.nii.gz",
            gzip.compress(packed(nifti()), mtime=0),
            "packed by gzip twice",
            "gunzip",
        ),
        ("a.png", b"GIF89a" + bytes(9), "a GIF picture", "save it as PNG"),
        ("a.jpg", b"RIFF\0\0\0\0WEBPVP8 ", "a WebP picture", "save it as PNG"),
        ("a.nii", bytes(999), "only zero bytes", "copy it again"),
        ("a.npy", b"0.5 0.25 0.125", "text", "export or copy it again"),
        ("a.bmp", bytes(range(1, 99)), "of no format that is known", "export or copy it again"),
    ],
)
def test_a_file_of_another_format_is_called_what_it_is(
    tmp_path: Path, name: str, content: bytes, found: str, fix: str
) -> None:
    """By every way of reading; damaged is said of none of them."""
    (tmp_path / name).write_bytes(content)
    for read in READERS:
        with pytest.raises(UserError, match="cannot read") as caught:
            read(tmp_path / name)
        assert found in caught.value.found
        assert fix in caught.value.fix
        assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "ending"),
    [
        ("a.nii", png(), ".png"),
        ("a.png", nifti(), ".nii"),
        ("a.png", packed(nifti()), ".nii.gz"),
        ("a.nii.gz", npy(), ".npy"),
        ("a.npy", tiff(page(VOLUME[..., 0])), ".tif"),
    ],
)
def test_to_rename_a_file_as_told_makes_it_readable(
    tmp_path: Path, name: str, content: bytes, ending: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / name)
    assert caught.value.fix == f"rename it to end in {ending}"
    shutil.move(tmp_path / name, tmp_path / f"a{ending}")
    assert read_image(tmp_path / f"a{ending}").pixels.size in (20, 60)


def test_a_picture_of_another_ending_is_read(tmp_path: Path) -> None:
    """PNG, TIFF and BMP under each other's names; pages count whatever the name is."""
    gray = VOLUME[..., 0].astype(np.uint8)
    for kind, name in (("PNG", "a.tif"), ("TIFF", "a.png"), ("BMP", "a.jpg")):
        Image.fromarray(gray).save(tmp_path / name, kind)
        assert np.array_equal(read_image(tmp_path / name).pixels[0], gray)
    (tmp_path / "a.png").write_bytes(tiff(page(gray), page(gray)))
    with pytest.raises(UserError, match="2 pages"):
        read_image(tmp_path / "a.png")


def cifti(path: Path) -> None:
    axes = (
        nib.cifti2.ScalarAxis(["thickness"]),
        nib.cifti2.BrainModelAxis.from_mask(np.ones(50, bool), name="cortex_left"),
    )
    nib.save(nib.Cifti2Image(np.zeros((1, 50), np.float32), axes), path)


@pytest.mark.parametrize("name", ["sub-01.dscalar.nii", "renamed.nii", "packed.nii.gz"])
def test_surface_data_are_no_volume(tmp_path: Path, name: str) -> None:
    """nibabel gives an image without an affine for the first."""
    cifti(tmp_path / "sub-01.dscalar.nii")
    content = (tmp_path / "sub-01.dscalar.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    for read in READERS:
        with pytest.raises(UserError) as caught:
            read(tmp_path / name)
        assert caught.value.found == "a CIFTI file: surface data, no volume"


def test_links_pipes_and_pointers_that_hold_nothing(tmp_path: Path) -> None:
    """A pipe that nobody writes to would never end."""
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "annex.nii").symlink_to(tmp_path / ".git/annex/objects/a.nii")
    os.mkfifo(tmp_path / "pipe.png")
    for name, found, fix in (
        ("lost.png", "a link that leads nowhere", "mend it"),
        ("annex.nii", "a link that leads nowhere", "git annex get (or datalad get) it"),
        ("pipe.png", "a pipe or a device", "name a file"),
    ):
        with pytest.raises(UserError) as caught:
            read_image(tmp_path / name)
        assert (caught.value.found, caught.value.fix) == (found, fix)


FILES = {
    "a.png": png(),
    "a.tif": tiff(page(VOLUME[..., 0].astype("u1"))),
    "deep.tif": tiff(page(VOLUME[..., 0].astype(">u4")), order=">"),
    "a.nii": nifti(),
    "a.nii.gz": packed(nifti()),
    "odd.nii": packed(nifti()),
    "a.npy": npy(),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "fault",
    [AttributeError("no affine"), OverflowError("too large"), MemoryError(), RecursionError(),
     AssertionError(), TypeError("None"), UnicodeDecodeError("ascii", b"\xff", 0, 1, "no")],
    ids=lambda fault: type(fault).__name__,
)  # fmt: skip
def test_whatever_a_decoder_throws_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr(sitk, "ReadImage", fail)
    monkeypatch.setattr(nib, "load", fail)
    monkeypatch.setattr(nib.Nifti1Image, "from_file_map", fail)
    monkeypatch.setattr(np, "load", fail)
    (tmp_path / name).write_bytes(FILES[name])
    with pytest.raises(UserError, match="cannot read image"):
        read_image(tmp_path / name)


def test_a_fault_of_ours_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a bug would look like a damaged file."""

    def fail(*_: object, **__: object) -> None:
        raise AttributeError

    (tmp_path / "a.png").write_bytes(png())
    monkeypatch.setattr("synfoc.images.formats._numbers", fail)
    with pytest.raises(AttributeError):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_give_a_picture_or_a_refusal_and_no_word_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """40 files of each format with up to 8 of their first 400 bytes changed."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        content = bytearray(FILES[name])
        for place in rng.integers(0, min(400, len(content)), rng.integers(1, 9)):
            content[place] = rng.choice([0, 127, 128, 255])
        (tmp_path / name).write_bytes(content)
        try:
            read_image(tmp_path / name)
        except UserError:
            refused += 1
    assert refused > 0
    assert capfd.readouterr().err == ""


def lying_npy() -> bytes:
    """A header of 8 GB, and 100 bytes behind it."""
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (1000, 1000, 1000)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(100)


def lying_nifti(dims: tuple[int, int, int]) -> bytes:
    content = bytearray(nifti())
    for axis, size in enumerate(dims):
        content[42 + 2 * axis : 44 + 2 * axis] = size.to_bytes(2, "little")
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", lying_npy),
        ("a.nii", lambda: lying_nifti((1000, 1000, 1000))),
        ("a.nii.gz", lambda: gzip.compress(lying_nifti((1000, 1000, 1000)))),
        ("a.nii", lambda: gzip.compress(lying_nifti((1000, 1000, 500)))),
        ("zeros.nii.gz", lambda: gzip.compress(lying_nifti((1000, 1000, 80)) + bytes(2**23), 1)),
    ],
)
def test_a_size_that_is_not_there_takes_no_memory(
    tmp_path: Path, name: str, content: Callable[[], bytes]
) -> None:
    """Up to 10^9 numbers in a header of a small file: refused before memory is taken for them."""
    (tmp_path / name).write_bytes(content())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="cannot read image"):
        read_image(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17, "KiB: 128 MiB"


def test_an_archive_that_unpacks_to_far_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gzip bomb says the truth about its size. 8 MB here; 512 MiB is where it begins."""
    data = np.zeros((200, 200, 100), np.int16)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti(data=data)))
    assert read_image(tmp_path / "a.nii.gz").pixels.size == data.size
    monkeypatch.setattr("synfoc.images.nifti.PACKED_SIZE", 2**20)
    with pytest.raises(UserError, match="8,000,352 bytes packed into"):
        read_image(tmp_path / "a.nii.gz")
    noise = np.random.default_rng(0).integers(0, 999, data.shape, np.int16)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti(data=noise), 1))
    assert read_image(tmp_path / "a.nii.gz").pixels.size == data.size


def test_one_bad_file_of_each_kind_does_not_stop_the_others(tmp_path: Path) -> None:
    """Four that cannot be read, and one that can."""
    cifti(tmp_path / "b.dscalar.nii")
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'(")
    (tmp_path / "d.tif").write_bytes(tiff(page(VOLUME[..., 0]))[:60])
    with zipfile.ZipFile(tmp_path / "e.npy", "w") as archive:
        archive.writestr("a.npy", npy())
    (tmp_path / "a.nii").write_bytes(nifti())
    found = check_data(Data(path=tmp_path))
    assert len(found.unreadable) == 4
    assert found.groups[0].slices == 3
