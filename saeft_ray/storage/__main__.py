"""`python -m saeft_ray.storage URL ls | du | rm SWEEP | gc | merge A B --into C`: the sweeps of a storage, their bytes,
what may go, and two sweeps as one."""

import argparse
import os
import sys
from collections import Counter
from datetime import UTC, datetime

from saeft_ray import door
from saeft_ray.errors import UserError
from saeft_ray.housekeeping.garbage import garbage, remove
from saeft_ray.housekeeping.inventory import size
from saeft_ray.housekeeping.merging import merged
from saeft_ray.housekeeping.ownership import look
from saeft_ray.housekeeping.removal import removal, remove_sweep
from saeft_ray.housekeeping.states import kinds, shares, states
from saeft_ray.results import render
from saeft_ray.storage.store import Store

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def main(arguments: list[str] | None = None, endpoint: str | None = None) -> int:
    """The door; `endpoint` is the S3 server (else the environment's). Exit status: 0, else as `door.guarded`; 1 if a
    removal was not agreed to."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.storage", description="Keep house in a storage.")
    parser.add_argument("url", metavar="URL", help="the folder or URL that sweep files name as `storage`")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("ls", help="its sweeps: state, progress, size, last change")
    commands.add_parser("du", help="bytes by sweep and by kind of artifact")
    removed = commands.add_parser("rm", help="remove a sweep, and the artifacts that no other sweep names")
    removed.add_argument("sweep", metavar="SWEEP", help="its name, as `ls` shows it")
    removed.add_argument("--yes", action="store_true", help="do not ask")
    collected = commands.add_parser(
        "gc",
        help="remove what no sweep needs",
        description="Remove artifacts that no sweep names, checkpoints of trials that have ended, builds that were "
        "lost, files set aside as damaged and left-over temporary files. What could be under way stays until it is a "
        "day old.",
    )
    collected.add_argument("--dry-run", action="store_true", help="only say what would go")
    joined = commands.add_parser(
        "merge",
        help="make a new sweep of the trials of two",
        description="Make a new sweep that holds the methods and the seeds of two that had the same model, data, "
        "recipe and settings. Both stay as they are. Its report calls its verdicts exploratory.",
    )
    joined.add_argument("first", metavar="A", help="a sweep's name, as `ls` shows it, or the URL of one elsewhere")
    joined.add_argument("second", metavar="B", help="another; artifacts of a sweep elsewhere are copied")
    joined.add_argument("--into", metavar="C", required=True, help="the name of the new sweep")
    options = parser.parse_args(arguments)
    return door.guarded(lambda: _act(options, endpoint), advice="Run the same command to continue")


def _act(options: argparse.Namespace, endpoint: str | None) -> int:
    store = Store(options.url, endpoint=endpoint)
    match options.command:
        case "ls":
            return _ls(store)
        case "du":
            return _du(store)
        case "rm":
            return _rm(store, options.sweep, options.yes)
        case "merge":
            return _merge(store, options.first, options.second, options.into)
    return _gc(store, options.dry_run)


def _ls(store: Store) -> int:
    lines = [
        (
            each.sweep,
            each.state,
            each.progress,
            _minute(each.created),
            _time(each.changed),
            f"{'≥ ' if each.at_least else ''}{_in_units(each.bytes)}",
        )
        for each in states(look(store))
    ]
    sys.stdout.write(render(("sweep", "state", "progress", "created", "last change", "size"), lines, "table"))
    return 0


def _du(store: Store) -> int:
    found = look(store)
    lines = [(each.sweep, *map(_in_units, each[1:])) for each in shares(found)]
    sys.stdout.write(render(("sweep", "its folder", "artifacts of it alone", "shared with others"), lines, "table"))
    print()
    of_kinds = [(each.kind, each.artifacts, *map(_in_units, each[2:])) for each in kinds(found)]
    sys.stdout.write(render(("artifacts", "number", "size", "of several sweeps", "of none"), of_kinds, "table"))
    files = found.inventory
    left = size([*files.aside.values(), *files.temporary.values()])
    all_files = [file for some in (files.artifacts, files.sweeps) for one in some.values() for file in one.values()]
    print(f"\nset aside or temporary: {_in_units(left)}; all together: {_in_units(left + size(all_files))}")
    for sweep, why in found.unaccounted.items():
        print(f"sweep {sweep} may name any of these: {why}")
    return 0


def _rm(store: Store, sweep: str, agreed: bool) -> int:
    going = removal(store, sweep)
    counts = Counter(name.kind for name in going.artifacts)
    of_kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(f"sweep {sweep} of {store.url}: {len(going.files)} files of its folder go, and {len(going.artifacts)} "
          f"artifacts{f' ({of_kinds})' if counts else ''}; {_in_units(going.bytes)} in all")  # fmt: skip
    for sentence in going.stays:
        print(sentence)
    if not agreed:
        if not sys.stdin.isatty():
            raise UserError(f"rm {sweep}: nothing was removed, since nobody can be asked here; add --yes")
        if input(f"Remove it for good? Type its name, {sweep}: ").strip() != sweep:
            print("nothing was removed")
            return 1
    remove_sweep(store, going)
    print(f"removed {sweep}")
    return 0


def _merge(store: Store, first: str, second: str, into: str) -> int:
    made = merged(store, first, second, into)
    twice = f", {made.shared} of which both sweeps had" if made.shared else ""
    copied = f" {made.copied} artifacts were copied." if made.copied else ""
    print(f"{made.url}: holds {made.trials} trials{twice}. Both sweeps are as they were.{copied}")
    print(f"Nobody registered what it tests: python -m saeft_ray.report {made.url} calls its verdicts exploratory")
    return 0


def _gc(store: Store, dry: bool) -> int:
    found, total = garbage(store), 0
    for item in found.items:
        if not dry:
            remove(store, item)
        total += item.bytes
        print(f"{'would remove' if dry else 'removed'} {item.path} ({_in_units(item.bytes)}): {item.why}")
    for sentence in found.kept:
        print(sentence)
    print(f"{'would remove' if dry else 'removed'} {_in_units(total)} in all")
    return 0


def _in_units(count: float) -> str:
    unit = 0
    while count >= 1000 and unit + 1 < len(_UNITS):
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else _minute(datetime.fromtimestamp(seconds, UTC).isoformat())


def _minute(moment: str) -> str:
    """An ISO time in UTC to the minute."""
    return moment[:16].replace("T", " ") + " UTC" if moment else "–"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
