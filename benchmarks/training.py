"""Training of a classifier: tokens a second against Keras' fit and PyTorch; memory; the first step.

    python benchmarks/training.py                      about twenty minutes
    python benchmarks/training.py --cells gru --lengths 100
    python benchmarks/training.py --only speed         memory and start are the other two

Speed: texts of about 20, 100 and 400 words, whose lengths vary as those of reviews do (log-normal;
the logarithms' standard deviation is 0.6, that of IMDB's is 0.58). Every system embeds the same
20,000 words in 64 numbers and has one layer of 64 units, in one or both directions.

* ours: the default classifier and its update, batches of similar length, as `main.py` trains it,
  but of 64 texts, as Keras' are (main.py's `--batch-tokens 16384` are 41 texts of 400 words);
* Keras: what tutorials write, `Embedding(mask_zero=True)`, `keras.layers`, `Dense`, Adam and
  `fit`'s own step; 64 texts a batch, of any length, padded to the batch's longest;
* PyTorch: our classifier and its update over packed sequences, in our batches.

All take a few updates each, in turns. Tokens are those of texts, never padding. The share of the
peak is that of the products of matrices that a cell can't do without, forward and twice backward,
by what a product of large matrices reaches on this machine. Targets: twice Keras, 1.2 times
PyTorch, in every row.

Memory: peak of a process of its own that trains on those texts, gru.

Start: seconds from the command to the first update of `python main.py`, with nothing prepared and
with all of it; target: under 8 s prepared.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import ROOT, has_torch, in_turns, machine, progress, table
from peer_models import PlainKeras
from texts import Texts, our_turns, torch_turns

CELLS = ("simple_rnn", "lstm", "gru", "bi_simple_rnn", "bi_lstm", "bi_gru")
TURNS = {20: 40, 100: 12, 400: 2}
"""Updates a turn, by words a text: about as long as each other."""

ROUNDS, BATCH = 8, 64
WORDS, SPREAD, WIDTH = 20_000, 0.6, 64

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}
FIRST = re.compile(rb"epoch 1/\d+ .*?\b[1-9]\d*/\d+")
"""The bar of training after at least one update."""


def write_texts(path: Path, length: int, seed: int = 1) -> None:
    """A CSV with header text,label: words from a Zipf distribution, labels by chance."""
    random = np.random.default_rng(seed)
    rows = (ROUNDS + 1) * BATCH * TURNS[length]
    lengths = random.lognormal(np.log(length) - SPREAD**2 / 2, SPREAD, rows)
    lengths = lengths.clip(2, 3 * length).astype(int)
    chances = np.cumsum(1 / np.arange(2, WORDS + 2))
    words = np.searchsorted(chances / chances[-1], random.random(lengths.sum()))
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for number, ids in enumerate(np.split(words, np.cumsum(lengths)[:-1])):
            file.write(" ".join(f"w{i}" for i in ids) + f",{['no', 'yes'][number % 2]}\n")


def texts_of(folder: Path, length: int, batch_tokens: int | None = None) -> Texts:
    """Prepared once; what comes later finds it in the cache. batch_tokens: None is 64 texts."""
    path = folder / f"{length}.csv"
    if not path.exists():
        write_texts(path, length)
    return Texts([
        "data=text_files", f"data.path={path}", f"task.text.max_tokens={3 * length}",
        f"task.text.vocabulary_size={WORDS}", "task.text.minimum_count=1",
        f"model.width={WIDTH}", f"task.embedding.width={WIDTH}",
        f"train.batch_tokens={batch_tokens or BATCH * 3 * length}",
        "prepare.validation=0.01", "prepare.test=0.01", "task.ngrams.order=0",
    ])  # fmt: skip


def systems(
    texts: Texts, cell: str, turn: int, *, torch: bool
) -> tuple[dict[str, Any], PlainKeras]:
    """Calls that take a turn, warmed up."""
    order = texts.plan(0)
    calls = {"ours": our_turns(texts, cell, order, turn)}
    if torch:
        calls["PyTorch"] = torch_turns(texts, cell, order, turn, packed=True)
    plain = PlainKeras(texts, cell, BATCH)
    plain.steps(2)
    calls["Keras"] = lambda _: plain.steps(turn)
    return calls, plain


def speed(folder: Path, cells: list[str], lengths: list[int], batch_tokens: int | None) -> None:
    torch, peak, rows = has_torch(), matrix_peak(), []
    for length in lengths:
        turn = TURNS[length]
        progress(f"{length} words: preparing")
        texts = texts_of(folder, length, batch_tokens)
        order = texts.plan(0)
        for cell in cells:
            progress(f"{cell}, {length} words: tracing")
            calls, plain = systems(texts, cell, turn, torch=torch)
            plain.tokens = 0
            seconds = in_turns(calls, ROUNDS, title=f"{cell}, {length} words")
            ours = sum(int(texts.lengths[order[k]].sum()) for k in range(ROUNDS * turn))
            rate = {name: ours / sum(times) for name, times in seconds.items()}
            rate["Keras"] = plain.tokens / sum(seconds["Keras"])
            used = rate["ours"] * operations(cell) / peak
            theirs = rate.get("PyTorch")
            rows.append([
                cell, length, f"{rate['ours']:,.0f}", f"{rate['Keras']:,.0f}",
                f"{theirs:,.0f}" if theirs else "–", f"{rate['ours'] / rate['Keras']:.2f}",
                f"{rate['ours'] / theirs:.2f}" if theirs else "–", f"{used:.0%}",
            ])  # fmt: skip
    table(
        f"Tokens a second in training; a product of large matrices reaches {peak / 1e9:.0f} "
        f"GFLOP/s\n{machine()}",
        ["model", "words", "ours", "Keras", "PyTorch", "ours / Keras", "ours / PyTorch", "of peak"],
        rows,
    )


def operations(cell: str) -> int:
    """Floating-point operations a token of the recurrent layer's products, forward and backward."""
    directions = 2 if cell.startswith("bi_") else 1
    gates = GATES[cell.removeprefix("bi_")]
    forward = 2 * gates * WIDTH * (WIDTH + WIDTH)
    return 3 * forward * directions


def matrix_peak(size: int = 2048) -> float:
    """Operations a second of a product of two large matrices, the best of some."""
    import tensorflow as tf

    a = tf.random.normal([size, size])
    best = float("inf")
    for _ in range(8):
        begun = time.perf_counter()
        tf.matmul(a, a)[0, 0].numpy()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def memory(folder: Path, lengths: list[int]) -> None:
    names = ["ours", "Keras", *(["PyTorch"] if has_torch() else [])]
    rows = []
    for length in lengths:
        row = [str(length)]
        for name in names:
            progress(f"memory: {name}, {length} words")
            command = [sys.executable, __file__, "--alone", name, "--lengths", str(length)]
            command += ["--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row.append(f"{float(done.stdout.split()[-1]):,.0f}")
        rows.append(row)
    table(
        f"Peak MB of a process that trains a gru\n{machine()}",
        ["words", *names],
        rows,
    )


def alone(folder: Path, name: str, length: int) -> None:
    """Trains in this process, and prints its peak memory in MB."""
    from pipelines.runs.measurements import peak_memory

    texts, turn = texts_of(folder, length), TURNS[length]
    if name == "Keras":
        PlainKeras(texts, "gru", BATCH).steps(2 * turn)
    elif name == "ours":
        our_turns(texts, "gru", texts.plan(0), turn)(1)
    else:
        torch_turns(texts, "gru", texts.plan(0), turn, packed=True)(1)
    print(peak_memory())


def start(folder: Path, rounds: int) -> None:
    found: dict[str, list[float]] = {"nothing prepared": [], "all prepared": []}
    for number in range(rounds):
        cache = folder / f"start{number}"
        for name, times in found.items():
            progress(f"start: {name}, round {number + 1} of {rounds}")
            times.append(first_update(cache, folder / "run"))
    rows = [
        [name, f"{min(times):.1f}", f"{statistics.median(times):.1f}"]
        for name, times in found.items()
    ]
    table(
        f"Seconds from `python main.py` to its first update, {rounds} times\n{machine()}",
        ["", "best", "median"],
        rows,
    )


def first_update(cache: Path, run: Path) -> float:
    """Seconds until the bar of training, on a terminal, has counted an update."""
    command = [sys.executable, str(ROOT / "main.py"), f"hydra.run.dir={run}/{time.time_ns()}"]
    mine, theirs = pty.openpty()
    begun = time.perf_counter()
    environment = {**os.environ, "RECURRENT_CACHE": str(cache), "COLUMNS": "200"}
    process = subprocess.Popen(
        command, stderr=theirs, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    os.close(theirs)
    said = b""
    while not FIRST.search(said):
        try:
            said += os.read(mine, 1 << 16)
        except OSError:  # the terminal is closed: the run has ended
            raise ValueError(f"main.py ended before an update: {said[-500:]!r}") from None
    seconds = time.perf_counter() - begun
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    os.close(mine)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=["speed", "memory", "start"])
    parser.add_argument("--cells", default=",".join(CELLS), help="some of %(default)s")
    parser.add_argument("--lengths", default=",".join(map(str, TURNS)), help="some of %(default)s")
    parser.add_argument("--batch-tokens", type=int, help="of our batches; without it, 64 texts")
    parser.add_argument("--alone", choices=["ours", "Keras", "PyTorch"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    lengths = [int(length) for length in options.lengths.split(",")]
    if options.only != "start":
        from pipelines.distributed.tensorflow import import_tensorflow

        import_tensorflow()
    if options.alone:
        alone(options.folder, options.alone, lengths[0])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RECURRENT_CACHE"] = str(folder / "cache")
        if options.only in (None, "speed"):
            speed(folder, options.cells.split(","), lengths, options.batch_tokens)
        if options.only in (None, "memory"):
            memory(folder, lengths)
        if options.only in (None, "start"):
            start(folder, 3)


if __name__ == "__main__":
    main()
