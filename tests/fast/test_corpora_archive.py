"""Reading packages: Debian's and wheels, made here byte by byte."""

from __future__ import annotations

import bz2
import gzip
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_packages import artefact, write_deb, write_wheel

from finescale.errors import InputError
from finescale.lab.corpora.archive import Archive, decode
from finescale.lab.corpora.recipes import Kind

CONTROL = "Package: made\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\nDescription: made\n"


def archive(path: Path, kind: Kind = "deb", only: str = "") -> Archive:
    row = artefact("made", kind, "man", ("documents",), ("en",), "1.0", "0" * 64)
    return Archive(row if not only else type(row)(**{**vars(row), "only": only}), path)


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
@given(files=st.dictionaries(st.text("abcxyz/", min_size=1).map(lambda n: f"usr/{n.strip('/')}x"), st.binary()))
@settings(max_examples=20, deadline=None)
def test_a_package_gives_back_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, compression: str, files: dict[str, bytes]
) -> None:
    path = write_deb(tmp_path_factory.mktemp("deb") / "made.deb", CONTROL, files, compression)
    assert dict(archive(path).members()) == files


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb on this machine")
@pytest.mark.parametrize("compression", ["xz", "gzip", "none", "zstd"])
def test_packages_built_by_dpkg_are_read(tmp_path: Path, compression: str) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL)
    (tree / "usr").mkdir()
    (tree / "usr/text").write_text("Grüße\n")
    (tree / "usr/link").symlink_to("text")
    path = tmp_path / "made.deb"
    command = ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "--build", tree, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this dpkg-deb cannot: {done.stderr.strip()}")
    assert list(archive(path).texts()) == [("usr/text", "Grüße\n")]


def test_members_are_chosen_and_unpacked(tmp_path: Path) -> None:
    files = {"a/one.gz": gzip.compress(b"one"), "a/two.bz2": bz2.compress(b"two"), "a/three": b"three", "b/one": b"no"}
    deb = write_deb(tmp_path / "made.deb", CONTROL, files)
    wheel = write_wheel(tmp_path, "made", "1.0", files)
    for one in (archive(deb, only="^a/"), archive(wheel, "wheel", only="^a/")):
        assert dict(one.members()) == {"a/one.gz": b"one", "a/two.bz2": b"two", "a/three": b"three"}
        assert dict(one.members("t")) == {"a/two.bz2": b"two", "a/three": b"three"}
    index = tmp_path / "index"
    index.write_bytes(b"text")
    assert list(archive(index, "index").texts()) == [("", "text")]


@pytest.mark.parametrize(("kind", "match"), [("deb", "is not a Debian package"), ("wheel", "is not a wheel")])
def test_something_else_is_refused(tmp_path: Path, kind: Kind, match: str) -> None:
    path = tmp_path / "made"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=match):
        list(archive(path, kind).members())


def test_a_package_without_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.deb"
    path.write_bytes(b"!<arch>\n")
    with pytest.raises(InputError, match=r"has no data\.tar"):
        list(archive(path).members())


def test_declared_encodings_are_used() -> None:
    assert decode("<meta charset='iso-8859-1'>Grüße".encode("latin-1")).endswith("Grüße")
    assert decode("Grüße".encode()) == "Grüße"
    assert decode("Grüße".encode("latin-1")) == "Grüße"
    assert decode("charset=nonsense Grüße".encode()).endswith("Grüße")
