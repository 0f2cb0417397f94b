"""Reading members of Debian packages, wheels and single files, without installing anything."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from finescale.errors import Fault, InputError
from finescale.lab.corpora.recipes import Artefact

AR_MAGIC = b"!<arch>\n"


@dataclass(frozen=True)
class Archive:
    """A fetched artefact, ready to be read."""

    artefact: Artefact
    path: Path

    def members(self, pattern: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield (path, content) of each regular member whose path matches ``pattern`` and the artefact's ``only``.

        Members come in the archive's order; ``.gz`` and ``.bz2`` members are unpacked. An index is one member, "".

        Raises:
            InputError: the file is not what its kind says.
        """
        wanted = re.compile(pattern)
        only = re.compile(self.artefact.only)
        for name, content in _OPEN[self.artefact.kind](self.path):
            if wanted.search(name) and only.search(name):
                yield name, _unpacked(name, content())

    def texts(self, pattern: str = "") -> Iterator[tuple[str, str]]:
        """Like ``members``, decoded: by the encoding the text declares, else UTF-8."""
        for name, content in self.members(pattern):
            yield name, decode(content)


def decode(content: bytes) -> str:
    """Text of ``content`` by the encoding it declares in its first bytes, else UTF-8, else Latin-1."""
    declared = re.search(rb"(?:charset|encoding)\s*=\s*[\"']?([\w-]+)", content[:1500])
    for encoding in [declared.group(1).decode()] if declared else []:
        try:
            return content.decode(encoding)
        except (LookupError, UnicodeDecodeError):
            break
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _unpacked(name: str, content: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.decompress(content)
    return bz2.decompress(content) if name.endswith(".bz2") else content


class _Content:
    """Content of a member, read only when asked for."""

    def __init__(self, open_: IO[bytes] | None) -> None:
        self._open = open_

    def __call__(self) -> bytes:
        return self._open.read() if self._open else b""


def _deb_members(path: Path) -> Iterator[tuple[str, _Content]]:
    with _deb_data(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.isfile():
                yield member.name.removeprefix("./"), _Content(tar.extractfile(member))


def _deb_data(path: Path) -> IO[bytes]:
    """The uncompressed data tar of a .deb: an ar archive with 60-byte headers and even offsets (deb(5))."""
    with path.open("rb") as file:
        if file.read(len(AR_MAGIC)) != AR_MAGIC:
            raise InputError(Fault(path.name, "is not a Debian package", "delete it and fetch again"))
        while len(header := file.read(60)) == 60:
            name, size = header[:16].decode("ascii", "replace").strip(" /"), int(header[48:58])
            if name.startswith("data.tar"):
                return _decompressed(path, name.removeprefix("data.tar"), file.read(size))
            file.seek(size + size % 2, io.SEEK_CUR)
    raise InputError(Fault(path.name, "has no data.tar inside", "delete it and fetch again"))


def _decompressed(path: Path, suffix: str, data: bytes) -> IO[bytes]:
    if suffix == ".xz":
        return lzma.open(io.BytesIO(data))
    if suffix == ".gz":
        return io.BytesIO(gzip.decompress(data))
    if suffix == ".zst":
        # Python 3.11 has no zstd; dpkg-deb is there wherever apt-get is.
        return io.BytesIO(
            subprocess.run(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE, check=True).stdout
        )
    return io.BytesIO(data)


def _wheel_members(path: Path) -> Iterator[tuple[str, _Content]]:
    try:
        with zipfile.ZipFile(path) as wheel:
            for name in sorted(wheel.namelist()):
                if not name.endswith("/"):
                    with wheel.open(name) as member:
                        yield name, _Content(member)
    except zipfile.BadZipFile:
        raise InputError(Fault(path.name, "is not a wheel", "delete it and fetch again")) from None


def _index_members(path: Path) -> Iterator[tuple[str, _Content]]:
    with path.open("rb") as file:
        yield "", _Content(file)


_OPEN = {"deb": _deb_members, "wheel": _wheel_members, "index": _index_members}
