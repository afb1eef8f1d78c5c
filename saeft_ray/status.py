"""`python -m saeft_ray.status STORAGE [--watch | --stop TRIAL]`: how far a sweep is, and the end of one of its trials,
from its storage alone, from any machine."""

import argparse
import sys
import time

from saeft_ray import door
from saeft_ray.orchestration.stopping import ask_to_stop
from saeft_ray.records.state import State, read_state, span

DEAD = 240.0  # seconds without a beat after which a driver may have died
EVERY = 10.0  # seconds between two looks
_SHOWN = 20  # running trials


def shown(state: State, now: float) -> str:
    """`state` in words; `now` is seconds since 1970."""
    progress, lines = state.progress, [f"{state.url}: {_how(state, now)}"]
    if progress and not progress["ended"]:
        lines.append(f"{progress['phase']}: {', '.join(_far(state, now))}")
    for phase, dealt in state.dealt.items():
        ended = state.ended.get(phase, 0)
        lines.append(f"{phase}: {ended} trials have ended" + (f", {dealt - ended} have not" if dealt > ended else ""))
    for trial, sign in list(state.signs.items())[:_SHOWN]:
        began, told = (span(max(0.0, now - sign[name])) for name in ("since", "at"))
        epoch = f"{sign['epoch']} of {sign['epochs']} epochs done"
        lines.append(f"  {trial} on {sign['node']}: {epoch}, began {began} ago, last sign of life {told} ago")
    if len(state.signs) > _SHOWN:
        lines.append(f"  and {len(state.signs) - _SHOWN} more")
    if progress and progress["failures"]:
        lines.append(f"attempts that failed in this run: {progress['failures']}")
    if state.given_up:
        lines.append(f"trials that could not be run: {state.given_up}; the same command tries them again")
        lines += [f"  {failed.trial}: {failed.why}" for failed in state.failed]
    for trial, request in state.asked.items():
        lines.append(f"{trial} is to be {request}")
    lines.append(f"stored: {_size(state.bytes)} in {state.files} files, without shared artifacts")
    return "\n".join(lines)


def _how(state: State, now: float) -> str:
    progress = state.progress
    if progress is None:
        return "its driver has not said yet how far it is"
    silent = max(0.0, now - progress["at"])
    if progress["ended"] == "done":
        return f"done, {span(silent)} ago"
    if progress["ended"]:
        return f"not running; it ended {span(silent)} ago: {progress['ended']}"
    if silent > DEAD:
        return f"no sign of life for {span(silent)}: its driver may have died; the same command continues the sweep"
    return f"running, last sign of life {span(silent)} ago"


def _far(state: State, now: float) -> list[str]:
    """How far the phase is that runs."""
    progress = state.progress
    assert progress is not None
    found = [f"{progress['done']} of {progress['total']} done"]
    if (left := progress["left"]) is not None:
        found.append(f"{progress['rate']:.3g} trials an hour")
        found.append(f"about {span(max(0.0, left - (now - progress['at'])))} left")
    if progress["best"]:
        name, best = max(progress["best"].items(), key=lambda one: float(one[1]))
        found.append(f"best selection accuracy {best:.1%} ({name})")
    return found


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def main(arguments: list[str] | None = None, endpoint: str | None = None) -> int:
    """The door; `endpoint` is the S3 server (else the environment's). Exit status: 0, else as `door.guarded`."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.status", description="Say how far a sweep is.")
    parser.add_argument("storage", metavar="STORAGE", help="the sweep's folder or URL, as the sweep printed it")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--watch", action="store_true", help=f"look again every {EVERY:.0f} s until the sweep ends")
    either.add_argument("--stop", metavar="TRIAL", help="end this trial for good: it is not tried again")
    options = parser.parse_args(arguments)
    if options.stop is not None:
        return door.guarded(lambda: _stop(options.storage, options.stop, endpoint))
    return door.guarded(lambda: _status(options.storage, options.watch, endpoint))


def _stop(storage: str, trial: str, endpoint: str | None) -> int:
    asked = ask_to_stop(storage, trial, endpoint)
    state = read_state(storage, endpoint)
    runs = state.progress is not None and not state.progress["ended"] and time.time() - state.progress["at"] <= DEAD
    then = "ends at its next step" if trial in state.signs else "ends as soon as it begins"
    print(
        f"{trial} is {asked}. "
        + (f"It {then}, within seconds" if runs else "The sweep does not run: this holds when it goes on")
        + ", and is not tried again."
    )
    return 0


def _status(storage: str, watch: bool, endpoint: str | None) -> int:
    while True:
        state = read_state(storage, endpoint)
        start = "\x1b[2J\x1b[H" if watch and sys.stdout.isatty() else ""
        print(start + shown(state, time.time()), flush=True)
        if not watch or (state.progress and state.progress["ended"]):
            return 0
        time.sleep(EVERY)


if __name__ == "__main__":
    sys.exit(main())
