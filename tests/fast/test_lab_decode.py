"""Decoding: greedy answers are those of transformers' ``generate`` on each prompt alone, for every method."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LlamaForCausalLM

from finescale import registry
from finescale.core import Shape
from finescale.lab import model, tokenizer
from finescale.lab.decode import Decoded, decode, texts
from finescale.lab.tokenizer import EOS

TINY = Shape(layers=2, width=32, heads=2, ff=48, vocab=97, context=64)
LIMIT = 12


def prompts(count: int = 20) -> list[np.ndarray]:
    """Prompts of many lengths."""
    rng = np.random.default_rng(0)
    return [rng.integers(3, 97, size=rng.integers(1, 20)).astype(np.int64) for _ in range(count)]


def talkative(seed: int) -> object:
    """A model whose answers differ, and of which some end: random weights, the end-of-text token made likely."""
    net = model.build(TINY, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, weight.shape[1] ** -0.5, generator=generator)
        net.get_input_embeddings().weight[EOS] *= 1.6
    return net


def attached(net: object, name: str) -> torch.Tensor | None:
    method = registry.get("method", name)
    made = method.attach(net, 3, {**method.options, "alpha": 32.0}, 0)
    with torch.no_grad():
        for index, parameter in enumerate(made.trainable.values()):
            if name == "lora":
                parameter.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(index))
    return made.prefix


def by_generate(net: object, prompt: np.ndarray, prefix: torch.Tensor | None, beams: int = 1) -> list[int]:
    """The prompt alone, unpadded, through transformers."""
    embedded = net.get_input_embeddings()(torch.from_numpy(prompt)[None])
    if prefix is not None:
        embedded = torch.cat([prefix[None], embedded], 1)
    settings = GenerationConfig(max_new_tokens=LIMIT, num_beams=beams, eos_token_id=EOS, pad_token_id=EOS)
    mask = torch.ones(embedded.shape[:2], dtype=torch.long)
    with torch.no_grad():
        return net.generate(inputs_embeds=embedded, attention_mask=mask, generation_config=settings)[0].tolist()


def cut(row: list[int]) -> tuple[list[int], bool]:
    return (row[: row.index(EOS)], True) if EOS in row else (row, False)


@pytest.mark.parametrize("name", ["full", "lora", "prompt"])
def test_greedy_equals_generate_for_every_method(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finescale.lab.decode.BATCH", 8)
    net = talkative(0)
    prefix = attached(net, name)
    asked = prompts()
    mine = decode(net, asked, LIMIT, prefix)
    theirs = [cut(by_generate(net, prompt, prefix)) for prompt in asked]
    assert [(one.ids.tolist(), one.ended) for one in mine] == theirs
    ended = sum(one.ended for one in mine)
    assert 0 < ended < len(mine), "the case must have rows that end and rows that do not"
    assert len({tuple(one.ids.tolist()) for one in mine}) > len(mine) // 2, "answers must differ"


def test_greedy_equals_generate_of_the_class_as_transformers_ships_it() -> None:
    net = talkative(2)
    twin = LlamaForCausalLM(net.config.__class__(**{**net.config.to_dict(), "attn_implementation": "eager"}))
    twin.load_state_dict(net.state_dict())
    asked = prompts(8)
    theirs = [cut(by_generate(twin.eval(), prompt, None))[0] for prompt in asked]
    assert [one.ids.tolist() for one in decode(net, asked, LIMIT)] == theirs


@pytest.mark.parametrize("name", ["full", "prompt"])
def test_beams_equal_generate_on_each_prompt_alone(name: str) -> None:
    net = talkative(0)
    prefix = attached(net, name)
    asked = prompts(6)
    theirs = [cut(by_generate(net, prompt, prefix, beams=3))[0] for prompt in asked]
    mine = [one.ids.tolist() for one in decode(net, asked, LIMIT, prefix, beams=3)]
    assert mine == theirs
    assert mine != [one.ids.tolist() for one in decode(net, asked, LIMIT, prefix)]


def test_a_limit_of_one_token_and_a_single_prompt() -> None:
    (answer,) = decode(talkative(0), prompts(1), 1)
    assert len(answer.ids) <= 1


def test_an_answer_is_decoded_stripped_and_ends_at_a_line_break_where_references_are_single_lines() -> None:
    words = tokenizer.train(["Das Haus.\nEnglish: 房子 über"], 300)
    answer = Decoded(np.array(words.encode(" Über 房子.\nEnglish: x").ids), ended=False)
    assert list(texts([answer], words, one_line=True)) == [("Über 房子.", True)]
    assert list(texts([answer], words, one_line=False)) == [("Über 房子.\nEnglish: x", False)]
    assert list(texts([Decoded(np.array([], np.int64), True)], words, one_line=True)) == [("", True)]
