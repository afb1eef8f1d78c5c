"""The store against plain boto3 on the S3 server of the tests: many small artifacts, and one large.

    python benchmarks/store.py [--small N] [--gb G] [--rounds R]

boto3 moves the same bytes with its own transfer manager, and neither checks nor commits anything. Rounds alternate.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from saeft_ray.store import Store

import s3_server


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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
            for label, count, size in (
                (f"{options.small} of 100 kB", options.small, 100_000),
                (f"one of {options.gb:g} GB", 1, int(options.gb * 1e9)),
            ):
                compare(label, count, size, options.rounds, server, folder)
        finally:
            s3_server.stop(server, process)


def compare(label: str, count: int, size: int, rounds: int, server: s3_server.S3Server, folder: Path) -> None:
    client, bucket = server.client(), server.bucket()
    source = folder / "source.bin"
    with source.open("wb") as file:
        for start in range(0, size, 50_000_000):
            file.write(os.urandom(min(50_000_000, size - start)))
    up: dict[str, list[float]] = {"boto3": [], "store": []}
    down: dict[str, list[float]] = {"boto3": [], "store": []}
    for number in range(rounds):
        here, there = (Store(f"s3://{bucket}/r{number}", cache=folder / f"cache-{number}{side}") for side in "ab")

        def build(target: Path) -> None:
            (target / "blob.bin").hardlink_to(source)

        def plain_up(prefix: str = f"plain{number}") -> None:
            for i in range(count):
                client.upload_file(str(source), bucket, f"{prefix}/{i}")

        def plain_down(prefix: str = f"plain{number}") -> None:
            for i in range(count):
                client.download_file(bucket, f"{prefix}/{i}", str(folder / "got.bin"))

        def ours_up(store: Store = here) -> None:
            for i in range(count):
                store.ensure("blob", f"k{i}", build)

        def ours_down(store: Store = there) -> None:
            for i in range(count):
                store.get("blob", f"k{i}")

        for store in (here, there):
            store.exists("connected")
        up["boto3"].append(seconds(plain_up))
        up["store"].append(seconds(ours_up))
        down["boto3"].append(seconds(plain_down))
        down["store"].append(seconds(ours_down))
        (folder / "got.bin").unlink()
    for way, found in (("upload", up), ("download", down)):
        plain, ours = (statistics.median(found[side]) for side in ("boto3", "store"))
        print(f"{label}, {way}: boto3 {plain:.2f} s, store {ours:.2f} s, ratio {plain / ours:.2f}", flush=True)


if __name__ == "__main__":
    main()
