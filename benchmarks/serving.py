"""Requests a second and latencies of mode=serve, with and without batching, and its memory.

    python benchmarks/serving.py --run outputs/sentiment/gru/2026-11-21_12-00-00-000000

Two servers over the run's SavedModel, one with batching and one without (serve.batch_rows=1), are
asked in turns, by clients in a process of their own that ask for the answer to one test example
and, once they have it, for the next. The clients write HTTP themselves: a library would need more
processor time than the server. Target: at 64 clients batching gives 3 times the throughput; no
errors; memory flat over 20,000 requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from measuring import ROOT, machine, progress, table

CLIENTS = (1, 8, 64)
SERVERS = {"on": [], "off": ["serve.batch_rows=1"]}
TEXTS = 500
"""Different requests, of the run's test examples."""

SETTLED = 2_000
"""Requests before memory is looked at: by then all sizes of batches have been seen."""


@contextmanager
def server(run: Path, arguments: list[str]) -> Iterator[tuple[psutil.Process, str]]:
    """A server's process and the URL to predict at."""
    command = [sys.executable, str(ROOT / "main.py"), "mode=serve", f"run={run}", "serve.port=0"]
    with tempfile.NamedTemporaryFile("r") as log, open(log.name, "w") as error:
        process = subprocess.Popen([*command, *arguments], stderr=error, cwd=Path(log.name).parent)
        try:
            output = ""
            while not (found := re.search(r"Serving .* at (http://\S+)", output)):
                if process.poll() is not None:
                    raise SystemExit(f"the server ended: {output}")
                time.sleep(0.1)
                output = Path(log.name).read_text()
            yield psutil.Process(process.pid), found[1]
        finally:
            process.terminate()
            process.wait()


def requests_of(run: Path) -> list[bytes]:
    """Bodies that ask for test examples of the run, one each."""
    with (run / "predictions.jsonl").open(encoding="utf-8") as lines:
        rows = (json.loads(line) for line in lines)
        given = [row["given"] for row in islice((r for r in rows if r["split"] == "test"), TEXTS)]
    return [json.dumps({"instances": [row]}).encode() for row in given]


async def ask(url: str, bodies: Iterator[bytes], end: float, seconds: list[float]) -> int:
    """Asks one after the other over one connection until `end`. Returns the number of errors."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    errors = 0
    for body in bodies:
        start = time.perf_counter()
        if start > end:
            break
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}"
        writer.write(f"{head}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", answer)
        if length is None:
            raise ValueError(f"an answer must have a content-length; received {answer!r}")
        await reader.readexactly(int(length[1]))
        seconds.append(time.perf_counter() - start)
        errors += not answer.startswith(b"http/1.1 200")
    writer.close()
    return errors


async def clients(run: Path, url: str, number: int, requests: int, most_seconds: float) -> None:
    """Prints what so many clients at a time saw, as JSON."""
    known = requests_of(run)
    bodies = (known[index % len(known)] for index in range(requests))  # shared by all clients
    seconds: list[float] = []
    start = time.perf_counter()
    errors = await asyncio.gather(
        *(ask(url, bodies, start + most_seconds, seconds) for _ in range(number))
    )
    took = time.perf_counter() - start
    cuts = statistics.quantiles(seconds, n=100)
    print(
        json.dumps(
            {
                "requests": len(seconds),
                "rate": len(seconds) / took,
                "p50": 1000 * cuts[49],
                "p99": 1000 * cuts[98],
                "errors": sum(errors),
            }
        )
    )


def measure_load(
    run: Path, url: str, number: int, requests: int, seconds: float
) -> dict[str, float]:
    """What clients in a process of their own saw."""
    given = [str(value) for value in (url, number, requests, seconds)]
    command = [sys.executable, __file__, "--run", str(run), "--clients", *given]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def resident(process: psutil.Process) -> float:
    """Megabytes of the process and its workers."""
    all_of_it = [process, *process.children(recursive=True)]
    return sum(one.memory_info().rss for one in all_of_it) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a finished run")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server and number")
    parser.add_argument("--seconds", type=float, default=5, help="of a turn")
    parser.add_argument("--requests", type=int, default=20_000, help="over which memory is watched")
    parser.add_argument("--clients", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    run = options.run.absolute()
    if options.clients:
        url, number, requests, seconds = options.clients
        asyncio.run(clients(run, url, int(number), int(requests), float(seconds)))
        return
    with server(run, SERVERS["on"]) as on, server(run, SERVERS["off"]) as off:
        throughput(run, {"on": on[1], "off": off[1]}, options.rounds, options.seconds)
        memory(run, *on, options.requests)


def throughput(run: Path, urls: dict[str, str], rounds: int, seconds: float) -> None:
    rows = []
    for number in CLIENTS:
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
        for turn in range(rounds):
            progress(f"{number} clients: round {turn + 1} of {rounds}")
            for name in sorted(urls, reverse=bool(turn % 2)):
                seen[name].append(measure_load(run, urls[name], number, 1_000_000, seconds))
        gain = statistics.median(
            a["rate"] / b["rate"] for a, b in zip(seen["on"], seen["off"], strict=True)
        )
        for name, turns in seen.items():
            middle = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
            errors = sum(int(turn["errors"]) for turn in turns)
            cells = [f"{middle[key]:.1f}" for key in ("rate", "p50", "p99")] + [str(errors)]
            rows.append([number, name, *cells, f"{gain:.2f}" if name == "on" else ""])
    table(
        f"Requests a second, medians of {rounds} turns of {seconds:g} s\n{machine()}",
        ["clients", "batching", "requests/s", "p50 ms", "p99 ms", "errors", "on / off"],
        rows,
    )


def memory(run: Path, process: psutil.Process, url: str, requests: int) -> None:
    rows = []
    for done in (SETTLED, requests // 2, requests - requests // 2):
        progress(f"memory: {done} requests")
        errors = measure_load(run, url, 16, done, 600)["errors"]
        rows.append([done, f"{resident(process):.0f}", int(errors)])
    table("Memory of the server and its worker", ["after so many more", "MB", "errors"], rows)


if __name__ == "__main__":
    main()
