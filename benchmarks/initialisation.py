"""What the initialisation of a rung is worth: held-out pretraining loss under the class's own and under ours.

Needs a prepared data folder of a study, for example the demo's:
    python benchmarks/initialisation.py finescale-demo/data/* --tokens 400000 --rungs xs s
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from unittest import mock

from finescale.core import BaseSpec, PretrainRecipe
from finescale.lab import ladder, model, steps
from finescale.lab import tokenizer as words


def main() -> None:
    """Print nats per token on held-out pretraining text for each rung and initialisation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--rungs", nargs="+", default=["xs", "s"])
    asked = parser.parse_args()
    vocab = words.load(asked.data).get_vocab_size()
    recipe = PretrainRecipe(batch_tokens=512, learning_rate_at_width_64=5e-3, warmup_tokens=30_000)
    for rung in asked.rungs:
        shape = ladder.shape(rung, vocab, 128)
        spec = BaseSpec(name=rung, shape=shape, data="-", pretrain_tokens=asked.tokens, recipe=recipe, seed=0)
        for label, change in (("transformers' own, 0.02", lambda net, random: None), ("ours", model._initialise)):
            with mock.patch.object(model, "_initialise", change), tempfile.TemporaryDirectory() as out:
                loss = steps.pretrain(spec, Path(out), asked.data, None, lambda _: None)["valid_nats_per_token"]
            print(f"{rung:4} {label:24} {loss:.4f} nats per token after {asked.tokens:,} tokens", flush=True)


if __name__ == "__main__":
    main()
