"""What the benchmarks of systems that write text share: what a system is, and timed searches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from measuring import Call, in_turns, on_best_threads, progress, ratio

from pipelines.core.contracts import Split

SEARCHES = {"greedy": 1, "beam 5": 5}

OURS = "ours"


class System(Protocol):
    """What is compared; batches are of its own kind."""

    def batch(self, columns: dict[str, np.ndarray]) -> Any:
        """From a Split's columns."""

    def train(self, batches: Iterable[Any]) -> float:
        """An update a batch; the loss of the last, in nats a target token."""

    def search(self, batch: Any, beams: int) -> np.ndarray:
        """The best text for each input, (B, T) ids up to a </s> or 0; one beam is greedy."""


def measure_searches(
    systems: Mapping[str, System],
    split: Split,
    chosen: Sequence[np.ndarray],
    text: Callable[[np.ndarray], list[str]],
    *,
    decimals: int,
) -> list[list[str]]:
    """A row a search and system: inputs a second, words each, share of texts as ours, time / ours.

    chosen    the split's rows of each batch.
    text      texts of ids (B, T).
    decimals  of inputs a second.
    """
    total, rows = sum(map(len, chosen)), []
    for title, beams in SEARCHES.items():
        texts: dict[str, list[str]] = {}
        calls: dict[str, Call] = {}
        for name, system in systems.items():
            progress(f"{title}, {name}: first batches")
            batches = [system.batch(split.gather(numbers)) for numbers in chosen]
            texts[name] = [one for batch in batches for one in text(system.search(batch, beams))]
            call = partial(_search, system, batches, beams)
            calls[name] = call if name == OURS else on_best_threads(call)
        seconds = in_turns(calls, len(chosen), title=title)
        for name, times in seconds.items():
            pairs = zip(texts[name], texts[OURS], strict=True)
            alike = sum(one == other for one, other in pairs) / total
            words = sum(len(one.split()) for one in texts[name]) / total
            facts = [f"{total / sum(times):,.{decimals}f}", f"{words:.1f}", f"{alike:.0%}"]
            rows.append([title, name, *facts, f"{ratio(times, seconds[OURS]):.2f}"])
    return rows


def _search(system: System, batches: Sequence[Any], beams: int, number: int) -> None:
    system.search(batches[number], beams)
