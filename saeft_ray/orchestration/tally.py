"""How far a sweep is, counted from what a watcher hears: as a line for a log, as values for whoever asks storage."""

import time
from collections.abc import Mapping
from typing import Any

from saeft_ray.records.rows import PHASES
from saeft_ray.records.state import span
from saeft_ray.records.trial_spec import TrialSpec

_STEPS = ("artifacts", *PHASES)
_NAMED = 8  # running trials in one line


class Tally:
    """The phase that runs (`title`), its trials, and what came of them by method. `failures` are attempts that did not
    end, of all phases."""

    def __init__(self) -> None:
        self.failures = 0
        self.begin("starting", 0, 0)

    def begin(self, title: str, total: int, done: int) -> None:
        self.title, self.total, self.done = title, total, done
        self.methods: dict[str, tuple[int, float | None]] = {}
        self.running: dict[str, TrialSpec] = {}
        self._before, self._began = done, time.monotonic()

    def started(self, spec: TrialSpec) -> None:
        self.methods.setdefault(spec.method, (0, None))
        self.running[spec.id] = spec

    def ended(self, spec: TrialSpec, selection: float | None) -> None:
        self.running.pop(spec.id, None)
        self.step(spec.method, selection)

    def step(self, name: str, value: float | None) -> None:
        """One more of `name` has ended; `value` is its selection accuracy."""
        count, best = self.methods.get(name, (0, None))
        known = [v for v in (best, value) if v is not None]
        self.methods[name] = (count + 1, max(known) if known else None)
        self.done += 1

    @property
    def spent(self) -> float:
        """Seconds since the phase began."""
        return time.monotonic() - self._began

    def left(self) -> float | None:
        """Seconds that the rest takes, as far as what has ended says it. Artifacts are too unlike to say: a head takes
        seconds, activations hours. Of trials, one of each method that has begun must have ended."""
        ran = self.done - self._before
        known = self.title != "artifacts" and ran and all(count for count, _ in dict(self.methods).values())
        return self.spent / ran * (self.total - self.done) if known else None

    def left_in_words(self) -> str:
        left = self.left()
        if left is None:
            return "" if self.title == "artifacts" else "estimating"
        return f"about {span(left)} left"

    def line(self, signs: Mapping[str, Mapping[str, Any]]) -> str:
        """All of it in one line; `signs` are the last ones of the trials that run (`Ledger.signs`)."""
        steps = _STEPS if self.title == "curves" else _STEPS[:-1]
        number = f" (phase {steps.index(self.title) + 1} of {len(steps)})" if self.title in steps else ""
        best = max(((b, name) for name, (_, b) in dict(self.methods).items() if b is not None), default=None)
        parts = [
            f"{self.done} of {self.total} done",
            f"best selection accuracy {best[0]:.1%} ({best[1]})" if best else "",
            "the time left is not known yet" if self.left() is None else self.left_in_words(),
            f"{self.failures} failure{'s' if self.failures > 1 else ''} so far" if self.failures else "no failures",
        ]
        return f"{self.title}{number}: {', '.join(filter(None, parts))}{self._running(signs)}"

    def json(self) -> dict[str, Any]:
        """The same as values; `at` is seconds since 1970."""
        return {
            "phase": self.title,
            "total": self.total,
            "done": self.done,
            "spent": self.spent,
            "left": self.left(),
            "rate": 3600 * (self.done - self._before) / max(self.spent, 1e-9),
            "failures": self.failures,
            "best": {name: best for name, (_, best) in dict(self.methods).items() if best is not None},
            "running": list(self.running),
            "at": time.time(),
        }

    def _running(self, signs: Mapping[str, Mapping[str, Any]]) -> str:
        names = list(self.running)
        if not names:
            return ""
        shown = [f"{name} ({where(signs[name])})" if name in signs else name for name in names[:_NAMED]]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"; running: {', '.join(shown)}{more}"


def where(sign: Mapping[str, Any]) -> str:
    """Where a running trial is and how far, in words."""
    return f"epoch {sign['epoch']} of {sign['epochs']} done, on {sign['node']}"


def values_of(spec: TrialSpec) -> str:
    """The numbers of a trial's settings, in words."""
    numbers = {name: value for name, value in spec.settings.model_dump(mode="json").items() if _is_number(value)}
    return " ".join(f"{name}={value:.4g}" for name, value in numbers.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
