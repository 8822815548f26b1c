"""Our scores of captions against pycocoevalcap's, on the same captions: both values and the gap.

pip install '.[peers]'; python benchmarks/caption_metrics.py captions.txt

captions.txt is of Flickr8k's form: a header, then image,caption. Of each image one caption is
taken for the answer (each time another one) and the others are its references. Where there is
Java, METEOR and the PTB tokenizer are compared as well; METEOR's program leaves a
stem unmatched that several words have, so a few captions in a thousand differ.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipelines.evaluate.metrics.captioning import caption_scores, caption_words
from pipelines.evaluate.metrics.meteor import ALPHA, BETA, EXACT, GAMMA, STEM


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("captions", type=Path)
    arguments.add_argument("--copies", type=int, default=1, help="of the data, to measure speed")
    given = arguments.parse_args()
    answers, references = held_out(given.captions)
    answers, references = answers * given.copies, references * given.copies
    print(f"{len(answers):,} captions, {sum(map(len, references)):,} references\n")
    print("On the words that we find:")
    words = [" ".join(text) for text in caption_words(answers)]
    right = [[" ".join(text) for text in caption_words(texts)] for texts in references]
    compare(words, right)
    if shutil.which("java"):
        print("\nOn the words that the PTB tokenizer finds, ours on our own:")
        right = ptb(references)
        compare([text for (text,) in ptb([[text] for text in answers])], right, answers, references)


def held_out(path: Path) -> tuple[list[str], list[list[str]]]:
    """An answer and the other captions of each image that has several."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    captions: dict[str, list[str]] = {}
    for image, caption in rows:
        captions.setdefault(image, []).append(caption)
    several = [texts for texts in captions.values() if len(texts) > 1]
    # A third say nothing new: of captions that are all different, two scores would say nothing.
    places = [place % len(texts) for place, texts in enumerate(several)]
    answers = [
        several[0][0] if number % 3 == 0 else texts[place]
        for number, (texts, place) in enumerate(zip(several, places, strict=True))
    ]
    return answers, [
        [text for number, text in enumerate(texts) if number != place]
        for texts, place in zip(several, places, strict=True)
    ]


def compare(
    words: Sequence[str],
    right: Sequence[Sequence[str]],
    answers: Sequence[str] | None = None,
    references: Sequence[Sequence[str]] | None = None,
) -> None:
    """A table; theirs of the words, ours of the answers, or of the words too."""
    begun = time.perf_counter()
    ours = caption_scores(answers or words, references or right)
    unit = np.ones((1, len(words)))
    print(f"{'':18}{'ours':>12}{'theirs':>12}{'difference':>14}{'seconds':>9}{'theirs':>8}")
    for name, peer in peers().items():
        begun = time.perf_counter()
        value = float(ours[name].of(unit)[0])
        between = time.perf_counter()
        other = peer(words, right)
        end = time.perf_counter()
        print(
            f"{name:18}{value:12.6f}{other:12.6f}{value - other:14.1e}"
            f"{between - begun:9.2f}{end - between:8.2f}"
        )


Peer = Callable[[Sequence[str], Sequence[Sequence[str]]], float]


def peers() -> dict[str, Peer]:
    """Those of pycocoevalcap, in our units, by our names."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider_scorer import CiderScorer
    from pycocoevalcap.rouge.rouge import Rouge

    def bleu(order: int) -> Peer:
        def score(words: Sequence[str], right: Sequence[Sequence[str]]) -> float:
            scorer = BleuScorer(n=order)
            for text, given in zip(words, right, strict=True):
                scorer += (text, given)
            return 100 * scorer.compute_score(option="closest")[0][order - 1]

        return score

    def cider(words: Sequence[str], right: Sequence[Sequence[str]]) -> float:
        scorer = CiderScorer()
        for text, given in zip(words, right, strict=True):
            scorer += (text, given)
        return scorer.compute_score()[0]

    def rouge(words: Sequence[str], right: Sequence[Sequence[str]]) -> float:
        pairs = zip(words, right, strict=True)
        return float(np.mean([Rouge().calc_score([text], given) for text, given in pairs]))

    found: dict[str, Peer] = {"cider": cider, "bleu": bleu(4)}
    found |= {f"bleu_{order}": bleu(order) for order in (1, 2, 3)} | {"rouge_l": rouge}
    return found | ({"meteor_exact_stem": meteor} if shutil.which("java") else {})


def meteor(words: Sequence[str], right: Sequence[Sequence[str]]) -> float:
    """METEOR's own program, with the modules and parameters that ours has."""
    from pycocoevalcap.meteor import meteor as module

    count = max(map(len, right))
    with tempfile.TemporaryDirectory() as folder:
        said, given = Path(folder, "said"), Path(folder, "given")
        said.write_text("".join(f"{text}\n" for text in words))
        # References to one text stand below each other; missing ones are copies of the first.
        filled = [[*texts, *[texts[0]] * (count - len(texts))] for texts in right]
        given.write_text("".join(f"{text}\n" for texts in filled for text in texts))
        jar = Path(module.__file__).with_name("meteor-1.5.jar")
        options = ["-l", "en", "-r", str(count), "-m", "exact stem", "-w", f"{EXACT} {STEM}"]
        # 0.5: words of content and function weigh the same.
        parameters = ["-p", f"{ALPHA} {BETA} {GAMMA} 0.5"]
        command = ["java", "-Xmx1G", "-jar", str(jar), str(said), str(given)]
        done = subprocess.run(
            [*command, *options, *parameters], check=True, capture_output=True, text=True
        )
    return float(done.stdout.split()[-1])


def ptb(texts: Sequence[Sequence[str]]) -> list[list[str]]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    named = {number: [{"caption": text} for text in given] for number, given in enumerate(texts)}
    found = PTBTokenizer().tokenize(named)
    return [found[number] for number in range(len(texts))]


if __name__ == "__main__":
    main()
