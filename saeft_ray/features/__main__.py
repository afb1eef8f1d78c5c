"""`python -m saeft_ray.features STORAGE`: which features fine-tuning added and removed, of a sweep that has ended."""

import argparse
import os
import sys
from pathlib import Path

from saeft_ray import door
from saeft_ray.api import open_sweep


def main(arguments: list[str] | None = None, endpoint: str | None = None) -> int:
    """The door; `endpoint` is the S3 server (else the environment's). Exit status: 0, else as `door.guarded`."""
    parser = argparse.ArgumentParser(
        prog="python -m saeft_ray.features",
        description="Find which features of the image model fine-tuning added and removed, in a sweep that has ended, "
        "from its stored weights. Nothing is trained again but small autoencoders, and what was computed once is read. "
        "It prints what it found and the path of a page with all features.",
        epilog="A feature is an atom of a dictionary (a sparse autoencoder of the frozen embeddings). METHOD is a "
        "label under `methods` in the sweep file, or `frozen` for --against; SET is a test set, or `selection`. "
        "docs/what_changed.md says how to read the page.",
    )
    parser.add_argument("storage", metavar="STORAGE", help="the sweep's folder or URL, as the sweep printed it")
    parser.add_argument("--method", metavar="METHOD", action="append", help="only this method; may be repeated")
    parser.add_argument("--against", metavar="METHOD", help="compare with it (default: the frozen model and baseline)")
    parser.add_argument("--words", metavar="FILE", help="a text file: words to name features after, one per line")
    parser.add_argument("--set", metavar="SET", action="append", help="only images of this test set; may be repeated")
    parser.add_argument(
        "--full",
        action="store_true",
        help="all that `features: full` computes, which is short for `features: {mode: full}`",
    )
    parser.add_argument("--local", action="store_true", help="compute serially in this process, without Ray")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="a local folder (default: report/ in STORAGE, a part beside it)",
    )
    options = parser.parse_args(arguments)
    return door.guarded(lambda: _find(options, endpoint), advice="Run the same command to continue")


def _find(options: argparse.Namespace, endpoint: str | None) -> int:
    written = open_sweep(options.storage, endpoint).features(
        methods=options.method, against=options.against, words=options.words, sets=options.set, full=options.full,
        out=options.out, local=options.local,
    )  # fmt: skip
    for sentence in written.found.sentences:
        print(sentence)
    for sentence in written.found.missing:
        print(f"missing: {sentence}")
    print(written.page)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
