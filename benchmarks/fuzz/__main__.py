"""Inputs that nobody wrote: does the package answer rightly, refuse in words, or fail?

    python -m benchmarks.fuzz [KIND …] [--inputs N] [--seed S] [--only INDEX]

Each input is a function of its kind, the seed and its index, so `--only` makes one again. An answer is right if it
agrees with what the input was made from; a refusal is a user's mistake (`errors.UserError`) or `Damaged`. Anything else
is a fault: another exception, an answer that is not right, a refusal of what is sound, more than the time limit.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from benchmarks.fuzz.input import Input, Wrong
from saeft_ray.errors import Damaged, UserError

KINDS = ("sweep_files", "tables", "folders", "keys", "pictures", "saes", "weights")
SECONDS = 20  # for one input
_SHOWN = 5  # faults


def main() -> int:
    """Exit status: 0 without a fault, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="INDEX", help="this input alone, with its traceback")
    options = parser.parse_args()
    if unknown := set(options.kinds) - {*KINDS}:
        parser.error(f"no such kind: {', '.join(unknown)}; allowed: {', '.join(KINDS)}")
    faults = 0
    for kind in options.kinds or KINDS:
        indices = range(options.inputs) if options.only is None else [options.only]
        faults += fuzz(kind, options.seed, indices, loud=options.only is not None)
    return 1 if faults else 0


def fuzz(kind: str, seed: int, indices: range | list[int], loud: bool = False) -> int:
    """Tries the inputs of a kind, prints what came of them, and returns the number of faults."""
    make = import_module(f"benchmarks.fuzz.{kind}").make
    came, faults, began = Counter[str](), list[str](), time.monotonic()
    for index in indices:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            what, words = outcome(make(random.Random(f"{kind} {seed} {index}"), Path(folder)), loud)
        came[what] += 1
        if loud:
            print(f"{what}: {words}")
        if what == "fault":
            faults.append(f"  {kind} {index}: {words}")
    spent = time.monotonic() - began
    print(
        f"{kind}: {sum(came.values()):,} inputs, {came['right']:,} right, {came['refused']:,} refused, "
        f"{came['fault']:,} faults, {spent:.0f} s"
    )
    print("\n".join(faults[:_SHOWN]) + "\n" * bool(faults), end="", flush=True)
    return len(faults)


def outcome(made: Input, loud: bool = False) -> tuple[str, str]:
    """What comes of an input, and the words of a refusal or a fault."""
    try:
        with _limited():
            answer = made.attempt()
            made.check(answer)
    except (UserError, Damaged) as error:
        words = str(error)
        if made.must_pass:
            return "fault", f"{made.about}: refused although sound: {words}"
        return ("refused", words) if words.strip() else ("fault", f"{made.about}: refused without a word")
    except (Exception, RecursionError) as error:
        if loud:
            traceback.print_exc()
        return "fault", f"{made.about}: {type(error).__name__}: {str(error)[:300]}"
    return "right", repr(answer)[:200]


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Wrong(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    sys.exit(main())
