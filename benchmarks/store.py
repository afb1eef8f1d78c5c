"""The store against plain boto3 on the S3 server of the tests: many small artifacts, and one large.

    python benchmarks/store.py [--small N] [--gb G] [--rounds R]

boto3 moves the same bytes with its own transfer manager, and neither checks nor commits anything. They take turns at
being first, each with all that was written before on the disk. `save` is how trials write checkpoints and end points,
`ensure` how what is shared is built: it looks first whether someone has built it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from saeft_ray.storage.store import Store

import s3_server

AT_ONCE = 8
Work = Callable[[int], object]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", type=int, default=100)
    parser.add_argument("--gb", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server, process = s3_server.start(folder)
        try:
            os.environ |= {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
            os.environ |= {"AWS_ENDPOINT_URL": server.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
            for label, count, size, at_once in (
                (f"{options.small} of 100 kB", options.small, 100_000, 1),
                (f"{options.small} of 100 kB, {AT_ONCE} at once", options.small, 100_000, AT_ONCE),
                (f"one of {options.gb:g} GB", 1, int(options.gb * 1e9), 1),
            ):
                compare(label, count, size, at_once, options.rounds, server, folder)
        finally:
            s3_server.stop(server, process)


def compare(
    label: str, count: int, size: int, at_once: int, rounds: int, server: s3_server.S3Server, folder: Path
) -> None:
    bucket, source = server.bucket(), folder / "source.bin"
    with source.open("wb") as file:
        for start in range(0, size, 50_000_000):
            file.write(os.urandom(min(50_000_000, size - start)))
    found: dict[str, dict[str, list[float]]] = {"upload": {}, "download": {}}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            for way, sides in works(server.client(), bucket, f"r{number}", source, Path(scratch)).items():
                for side in sides.values() if size < 1_000_000 else ():
                    side(count)  # a trial's process has used its connection before
                for side in list(sides)[number % len(sides) :] + list(sides)[: number % len(sides)]:
                    found[way].setdefault(side, []).append(seconds(sides[side], range(count), at_once))
    for way, sides_found in found.items():
        took = {side: statistics.median(times) for side, times in sides_found.items()}
        shown = ", ".join(f"{side} {time:.2f} s" for side, time in sorted(took.items()))
        print(f"{label}, {way}: {shown}", flush=True)
        for side in sides_found.keys() - {"boto3"}:
            ratios = [a / b for a, b in zip(sides_found["boto3"], sides_found[side], strict=True)]
            spread = f"rounds {min(ratios):.2f} to {max(ratios):.2f}"
            print(f"    boto3 ÷ {side} {took['boto3'] / took[side]:.2f} ({spread})", flush=True)


def works(client: Any, bucket: str, prefix: str, source: Path, scratch: Path) -> dict[str, dict[str, Work]]:
    """What is timed, for the artifact of one number; uploads come before downloads."""
    here, there = (Store(f"s3://{bucket}/{prefix}", cache=scratch / side) for side in "ab")
    for store in (here, there):
        store.check_writable()  # as a sweep does before anything else
        store.exists("connected")  # as the client of boto3 is

    def build(target: Path) -> None:
        (target / "blob.bin").hardlink_to(source)

    upload: dict[str, Work] = {
        "boto3": lambda i: client.upload_file(str(source), bucket, f"plain{prefix}/{i}"),
        "save": lambda i: here.save("blob", f"k{i}", build),
        "ensure": lambda i: here.ensure("blob", f"e{i}", build),
    }
    download: dict[str, Work] = {
        "boto3": lambda i: client.download_file(bucket, f"plain{prefix}/{i}", str(scratch / f"got-{i}")),
        "get": lambda i: there.get("blob", f"k{i}"),
    }
    return {"upload": upload, "download": download}


def seconds(work: Work, numbers: Iterable[int], at_once: int) -> float:
    os.sync()
    began = time.perf_counter()
    if at_once == 1:
        for number in numbers:
            work(number)
    else:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(work, numbers))
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
