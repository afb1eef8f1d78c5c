"""`python -m saeft_ray.data shard SRC DST`: a folder of images becomes tar shards with an index, at any fsspec URL.

The same folder gives the same shards, byte for byte; what an interrupted run completed is not written again. `index`
gives an index to tars that have none, `stage` fetches shards into this node's cache ahead of a sweep.
"""

import argparse
import sys

from saeft_ray import door
from saeft_ray.datasets.images.sharding import index, shard, stage
from saeft_ray.datasets.images.shards import INDEX


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, else as `door.guarded`."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.data", description="Tar shards of images.")
    commands = parser.add_subparsers(dest="command", required=True)
    sharding = commands.add_parser("shard", help="write the images of a folder as shards")
    sharding.add_argument("source", help="a folder with one folder a class, local or a URL")
    sharding.add_argument("destination", help="a folder of its own, local or a URL")
    sharding.add_argument("--shard-mb", type=int, default=256, help="size of a shard (default: 256)")
    for name, words in (("index", "write the index of tars that have none"), ("stage", "fetch shards into the cache")):
        commands.add_parser(name, help=words).add_argument("place", help="the folder of the tars, local or a URL")
    options = parser.parse_args(arguments)
    return door.guarded(lambda: _do(options))


def _do(options: argparse.Namespace) -> int:
    if options.command == "shard":
        count = shard(options.source, options.destination, options.shard_mb * 1_000_000)
        print(f"{options.destination}: {count:,} images in shards")
    elif options.command == "index":
        print(f"{options.place}/{INDEX}: {index(options.place):,} images")
    else:
        print(f"{options.place}: {stage(options.place) / 1e9:,.2f} GB in the cache")
    return 0


if __name__ == "__main__":
    sys.exit(main())
