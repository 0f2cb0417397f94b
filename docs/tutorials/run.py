"""Run the blocks of a tutorial in order, and hold what they print against what it shows.

``python`` blocks are run by this Python, ``sh`` blocks by the shell; a ``text`` block shows what the block before it
prints. What is measured differs between machines, so that lines are compared without their numbers; lines that hold one
of the words in ``EXACT`` are compared as they are.

    python docs/tutorials/run.py docs/tutorials/your-own-data.md [--write]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"[0-9a-f]{12}|-?\d[\d,.]*(e[+-]?\d+)?")
EXACT = ("examples:", "tokens of", "leaks:", "The pilot:", "bases:", "Written:")
DEPENDS = re.compile(r"(?<=^The next run that tells most for its time:).*")
"""Which run that is depends on how long runs took."""
SPAN = re.compile(r"# (s|min|h)\b")
ENVIRONMENT = {
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")},
    "COLUMNS": "120",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TERM": "dumb",
}


def blocks(text: str) -> list[tuple[str, str]]:
    """Kind and content of each fenced block."""
    return [(kind, body) for kind, body in BLOCK.findall(text)]


def run(kind: str, body: str, folder: Path) -> str:
    """What a block prints on standard output when it is run in ``folder``.

    Raises:
        RuntimeError: it left with a code; with what it said.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-c", body] if kind == "python" else ["sh", "-e", "-c", body]
    environment = os.environ | ENVIRONMENT | {"PATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{body}\nleft with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def stable(printed: str) -> list[str]:
    """Lines as they should be on every machine: numbers as ``#``, but in lines whose counts do not depend on it."""
    lines = []
    for line in printed.replace(os.getcwd(), "").splitlines():
        told = line if any(word in line for word in EXACT) else SPAN.sub("# time", NUMBER.sub("#", line))
        if told := DEPENDS.sub("", " ".join(re.sub("[━┃┏┓┳┡┩╇│└┘┴─]", " ", told).split())):
            lines.append(told)
    return lines


def differences(text: str, folder: Path) -> list[tuple[list[str], list[str]]]:
    """Shown and printed lines of each block that prints something else than is shown; runs all blocks."""
    found, printed = [], ""
    for kind, body in blocks(text):
        if kind in ("python", "sh"):
            printed = run(kind, body, folder).replace(str(folder), ".")
        elif stable(body) != stable(printed):
            found.append((stable(body), stable(printed)))
    return found


def written(text: str, folder: Path) -> str:
    """The tutorial with what its blocks print now."""
    printed = ""

    def again(block: re.Match[str]) -> str:
        nonlocal printed
        if block[1] == "text":
            return f"```text\n{printed.rstrip()}\n```"
        printed = run(block[1], block[2], folder).replace(str(folder), ".")
        return block[0]

    return BLOCK.sub(again, text)


def main() -> None:
    """Run a tutorial; ``--write`` puts what is printed into it, else what differs is told and the code is 1."""
    path = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        if "--write" in sys.argv:
            path.write_text(written(path.read_text(), Path(folder).resolve()))
            return
        wrong = differences(path.read_text(), Path(folder).resolve())
    for shown, printed in wrong:
        print("shown:", *shown, "printed:", *printed, sep="\n  ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
