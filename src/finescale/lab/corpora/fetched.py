"""What a fetch brings back, held against the recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from finescale.errors import Faults
from finescale.lab.corpora.archive import Archive


class UnreachableError(Exception):
    """A source of packages could not be reached; the message says what it answered."""


@dataclass(frozen=True)
class Found:
    """An artefact as it was found: its real version, digest and size."""

    archive: Archive
    version: str
    sha256: str
    bytes: int


@dataclass
class Fetched:
    """All artefacts found, and the names of those that were not with the reason."""

    found: list[Found] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, archive: Archive, version: str, sha256: str) -> None:
        self.found.append(Found(archive, version, sha256, archive.path.stat().st_size))

    def check(self) -> list[str]:
        """Warnings for what differs from the recipe: other versions, missing packages.

        Raises:
            InputError: the recipe's version with another digest.
        """
        faults = Faults()
        warnings = [f"{name}: not found ({reason})" for name, reason in self.missing.items()]
        for one in self.found:
            wanted = one.archive.artefact
            if one.version != wanted.version:
                warnings.append(
                    f"{wanted.name}: version {one.version} found, the recipe was made with {wanted.version}"
                )
            elif one.sha256 != wanted.sha256:
                faults.add(
                    f"{wanted.name} {wanted.version}",
                    f"expected SHA-256 {wanted.sha256}, found {one.sha256}",
                    "the mirror or an index behind it serves another file: fetch from another mirror",
                )
        faults.raise_if_any()
        return warnings
