"""A published model's own chat template: conversations as its tokenizer writes them, the answer apart from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from finescale.core import fingerprint
from finescale.errors import Fault, Faults, InputError
from finescale.lab.tasks import Rendered

MOST_FAULTS = 5
DAY = date(2024, 7, 26)
"""Today, to a template that asks: rows would else depend on the day they are made. Llama 3.1's own without a clock."""
PARTS = ("%-d", "%-m", *(f"%{letter}" for letter in "YymdeBbhAajFDxUWVuGwHIMSpXTRcfZz%"))
CLOCK = "".join(f" | replace({part!r}, {DAY.strftime(part)!r})" for part in PARTS)
CLOCK = f"{{% macro strftime_now(format) %}}{{{{ format{CLOCK} }}}}{{% endmacro %}}{{{{ '' }}}}"
"""The day in a template's own language, as transformers takes no clock; the empty text keeps a line end after it."""
Ids = NDArray[np.uint32]


@dataclass(frozen=True)
class Chat:
    """How a model's tokenizer writes a conversation.

    ``words`` reads the special tokens that the template writes, ``special`` are those that no message may spell,
    ``end`` is the token that ends a text.
    """

    tokenizer: Any
    words: Tokenizer
    special: frozenset[str]
    end: int

    @property
    def template(self) -> str:
        """The template's own text."""
        return str(self.tokenizer.get_chat_template())

    @property
    def dated(self) -> bool:
        """Whether the template asks what day it is."""
        return "strftime_now" in self.template

    def identity(self) -> str:
        """What rows are written by: the template, and the day that it is told."""
        return fingerprint({"template": self.template, "day": DAY.isoformat()})

    def encode(self, rows: Sequence[Rendered], where: str) -> list[tuple[Rendered, Ids, Ids]]:
        """Rows with the prompt as the model is given it, and the tokens of prompts and targets.

        The prompt is the conversation up to where the assistant speaks. The target is what the template writes for
        the answer, to its end-of-text token; where the template writes none, one follows.

        Raises:
            InputError: the template refuses a conversation, or a message spells a special token; says which.
        """
        faults, told = Faults(), []
        for row in rows:
            try:
                told.append((row, *self._written(row)))
            except ValueError as problem:
                faults.add(
                    where,
                    f"{row.prompt!r:.60}: {problem}",
                    "mend the row, or leave chat out of the task (init --no-chat)",
                )
        if faults.found:
            more = [Fault(where, f"{len(faults.found)} rows in all")] if len(faults.found) > MOST_FAULTS else []
            raise InputError(*faults.found[:MOST_FAULTS], *more)
        prompts = self.words.encode_batch([prompt for _, prompt, _ in told], add_special_tokens=False)
        targets = self.words.encode_batch([target for *_, target in told], add_special_tokens=False)
        return [
            (replace(row, prompt=text), np.array(prompt.ids, np.uint32), self._ended(target.ids))
            for (row, text, _), prompt, target in zip(told, prompts, targets, strict=True)
        ]

    def _written(self, row: Rendered) -> tuple[str, str]:
        """Prompt and target of a row as the template writes them."""
        turns = [{"role": role, "content": content} for role, content in row.turns or (("user", row.prompt),)]
        spelled = [mark for mark in self.special if any(mark in text for text in (row.target, *_contents(turns)))]
        if spelled:
            raise ValueError(f"spells the special token {min(spelled)!r}, which the chat template would make it")
        answer = {"role": "assistant", "content": row.target}
        try:
            prompt = self._render(turns, add_generation_prompt=True)
            whole = self._render([*turns, answer])
        except Exception as error:  # a template is a program of the model's maker, which raises what it likes
            raise ValueError(f"the chat template refuses it: {' '.join(str(error).split())[:120]}") from error
        if not whole.startswith(prompt) or row.target not in whole[len(prompt) :]:
            raise ValueError("the chat template writes it otherwise once it is answered, so its answer has no place")
        return prompt, whole[len(prompt) :].rstrip()

    def _render(self, turns: list[dict[str, str]], **how: bool) -> str:
        text = CLOCK + self.template if self.dated else self.template
        return str(self.tokenizer.apply_chat_template(turns, chat_template=text, tokenize=False, **how))

    def _ended(self, ids: list[int]) -> Ids:
        """A target's tokens to its first end-of-text token."""
        return np.array([*(ids[: ids.index(self.end)] if self.end in ids else ids), self.end], np.uint32)


def _contents(turns: Sequence[dict[str, str]]) -> list[str]:
    return [turn["content"] for turn in turns]


def chat_of(found: Any) -> Chat | None:
    """How a transformers tokenizer writes conversations; None where it has no chat template."""
    if not found.chat_template:
        return None
    words = Tokenizer.from_str(found.backend_tokenizer.to_str())
    words.no_truncation()
    words.no_padding()
    special = {token.content for token in found.added_tokens_decoder.values() if token.special}
    return Chat(found, words, frozenset({*special, *found.all_special_tokens} - {""}), found.eos_token_id)
