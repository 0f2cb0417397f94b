"""A section of the page: where links point to, what it is called, and its markup."""

from __future__ import annotations

from dataclasses import dataclass

from finescale.report.markup import Html, tag


@dataclass(frozen=True)
class Section:
    """``name`` is the id that links use; ``short`` is what the list of sections calls it."""

    name: str
    title: str
    short: str
    body: Html

    def html(self, papers: list[str]) -> Html:
        """The section as an element that its heading names; ``papers`` are its figures, as files without endings."""
        heading = tag("h2", self.title, id=f"{self.name}-title")
        return tag("section", heading, self.body, _papers(papers), id=self.name, aria_labelledby=f"{self.name}-title")


def _papers(names: list[str]) -> Html | None:
    """Where the section's figures for papers are, and their numbers."""
    if not names:
        return None
    said = [(tag("code", f"{name}.pdf"), " (.svg, .png), numbers in ", tag("code", f"{name}.csv")) for name in names]
    parts = [part for one in said for part in ("; ", *one)][1:]
    return tag(
        "p", f"{'Figure' if len(names) == 1 else 'Figures'} for papers: ", parts, ".", class_="small soft papers"
    )


def paragraph(*children: object, class_: str | None = None) -> Html:
    """A paragraph of prose."""
    return tag("p", *children, class_=class_)


def facts(pairs: list[tuple[str, object]]) -> Html:
    """Names with their values, one a line."""
    return tag("dl", [(tag("dt", name), tag("dd", value)) for name, value in pairs], class_="facts")


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
