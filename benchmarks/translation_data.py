"""Pairs of sentences as `translation_peers.py` gives them to every system.

Multi30k where its files are at hand, else a language of our own making with sentences as long.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from measuring import configure, load_data

from models.seeds import stream
from pipelines.core.contracts import Split
from pipelines.core.errors import UserError
from pipelines.data.batches import Plan, assemble, plan

HOW_TO_GET_IT = """\
No --data DIRECTORY is given: the sentences are generated, with words and lengths spread as in
Multi30k. To measure on Multi30k itself, put train.en, train.de, val.en, val.de,
test_2016_flickr.en and test_2016_flickr.de, plain or as .gz, into a directory; they are in
data/task1/raw of https://github.com/multi30k/dataset (Elliott et al. 2016; for research only)."""

LONGEST_ANSWER = 50
"""Pieces at which a search ends; of Multi30k's translations, 1% have more than 31."""

SAME = [
    # What the systems are.
    "task=translation",
    "task.text.vocabulary_size=8000",
    "model=bi_gru",
    "model.width=256",
    "task.embedding.width=256",
    "task.embedding.dropout=0.0",
    "task.embedding.word_dropout=0.0",
    "task.decoder.attention=general",
    "task.decoder.tied=false",
    "task.decoder.dropout=0.0",
    # How they learn.
    "task.label_smoothing=0.0",
    "train.learning_rate=0.001",
    "train.schedule=constant",
    "train.warmup=0",
    "train.clip_norm=1.0",
    "train.ema_decay=null",
    "train.batch_examples=null",
    # How they search.
    "decode=beam",
    "decode.beam=5",
    "decode.length_penalty=0.6",
    "decode.maximum_ratio=0.0",
    f"decode.maximum_extra={LONGEST_ANSWER}",
]


class Sentences:
    """The project's own preparation and batches of them.

    Columns of a batch: source_tokens (B, S), target_tokens (B, T) from <s> to </s>, right-padded
    with 0, and the length of each, (B,).
    """

    def __init__(self, data: Path | None, *, batch_tokens: int, limit: int | None = None):
        self.name = "generated sentences" if data is None else "Multi30k"
        given = [f"train.batch_tokens={batch_tokens}", f"prepare.limit={limit or 'null'}"]
        with tempfile.TemporaryDirectory() as directory:
            files = _generate_files(Path(directory)) if data is None else _multi30k(data)
            self.config = configure([*SAME, *given, "data=parallel_text", *files])
            made = load_data(self.config)
        self.codec, self.sizes = made.codec, made.codec.spec.sizes
        self.train, self.test = made.splits["train"], made.splits["test"]

    def training_plan(self, epoch: int = 0) -> Plan:
        return plan(
            self.train.lengths(),
            tokens=self.config.train.batch_tokens,
            seed=stream(self.config.seed, "order"),
            epoch=epoch,
        )

    def test_plan(self, sentences: int) -> Plan:
        """Batches of so many sentences, sorted by the source's length: no target is known yet."""
        lengths = self.test.lengths()[:, :1]
        return plan(lengths, tokens=2**31, maximum_examples=sentences, seed=None)

    def text(self, ids: np.ndarray) -> list[str]:
        """Target ids (B, T) as text, up to </s>."""
        return [self.codec.fields["target_tokens"].decode(row) for row in ids]


def batches(split: Split, order: Plan, make: Callable[[dict[str, np.ndarray]], Any]) -> Any:
    """Made by a thread that is ahead, for all systems alike."""
    return closing(assemble(split, order, make=make))


def part_of(order: Plan, number: int, size: int) -> Plan:
    """The plan's batches of a turn, `size` of them."""
    return Plan(order.order, order.bounds[number * size : (number + 1) * size])


def _multi30k(directory: Path) -> list[str]:
    """Settings that name the files."""
    settings = []
    for prefix, stem in (("", "train"), ("validation_", "val"), ("test_", "test_2016_flickr")):
        for side, language in (("source", "en"), ("target", "de")):
            name = f"{stem}.{language}"
            files = [directory / name, directory / f"{name}.gz"]
            file = next((file for file in files if file.is_file()), None)
            if file is None:
                raise UserError(f"--data: {directory} must hold {name} or {name}.gz")
            settings.append(f"data.{prefix}{side}='{file}'")
    return settings


def _generate_files(directory: Path, rows: int = 31_000, words: int = 6_000) -> list[str]:
    """Settings that name the files of a language that never was, and its translation.

    Words are spread as Zipf has it, sentences are as long as in Multi30k (log-normal). In the
    translation every word has its own, some fall away, and some come after the next one.
    """
    random = np.random.default_rng(0)
    spelling, other = (_spelling(random, words, letters) for letters in ("bdfglmnr", "kptsvwzh"))
    share = 1 / (np.arange(words) + 2.7)
    lengths = np.exp(random.normal(2.43, 0.31, rows)).round().astype(int).clip(3, 40)
    drawn = random.choice(words, lengths.sum(), p=share / share.sum())
    sentences = [row.tolist() for row in np.split(drawn, np.cumsum(lengths)[:-1])]
    source, target = directory / "source.txt", directory / "target.txt"
    source.write_text("".join(_line(spelling, row) for row in sentences))
    target.write_text("".join(_line(other, _translate(row)) for row in sentences))
    shares = ["prepare.validation=0.03", "prepare.test=0.033"]
    return [f"data.source='{source}'", f"data.target='{target}'", *shares]


def _spelling(random: np.random.Generator, words: int, consonants: str) -> list[str]:
    syllables = [consonant + vowel for consonant in consonants for vowel in "aeiou"]
    spelt: dict[str, None] = {}
    while len(spelt) < words:
        spelt["".join(random.choice(syllables, random.integers(2, 5)))] = None
    return list(spelt)


def _translate(words: list[int]) -> list[int]:
    kept = [word for word in words if word % 13 != 1] or words
    for place in range(len(kept) - 1):
        if kept[place] % 5 == 0:
            kept[place : place + 2] = kept[place + 1], kept[place]
    return kept


def _line(spelling: list[str], words: list[int]) -> str:
    return " ".join(spelling[word] for word in words) + "\n"
