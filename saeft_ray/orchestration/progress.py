"""What a person sees while a sweep runs: one calm display on a terminal, one line per milestone elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from saeft_ray.orchestration.plan import Artifact
from saeft_ray.records.rows import Phase
from saeft_ray.records.trial_spec import TrialSpec


class Terminal(Console):
    """A console whose reader may leave: that is an error, as for `print`, and not the status of a sweep that failed."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Quiet:
    """Shows nothing."""

    def building(self, artifacts: Sequence[Artifact]) -> None: ...

    def built(self, artifact: Artifact) -> None: ...

    def phase(self, phase: Phase, total: int, done: int) -> None: ...

    def started(self, spec: TrialSpec) -> None: ...

    def ended(self, spec: TrialSpec, selection: float | None) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Progress(Quiet):
    """Phase, method, trials done, best selection accuracy so far, time left."""

    def __init__(self, console: Console):
        self._console = console
        self._live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
        self._title, self._total, self._done, self._before, self._began = "starting", 0, 0, 0, time.monotonic()
        self._methods: dict[str, tuple[int, float | None]] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def building(self, artifacts: Sequence[Artifact]) -> None:
        self._begin("artifacts", len(artifacts), 0)

    def built(self, artifact: Artifact) -> None:
        self._step(artifact.kind, None)

    def phase(self, phase: Phase, total: int, done: int) -> None:
        self._begin(phase, total, done)

    def started(self, spec: TrialSpec) -> None:
        self._methods.setdefault(spec.method, (0, None))

    def ended(self, spec: TrialSpec, selection: float | None) -> None:
        self._step(spec.method, selection)

    def _begin(self, title: str, total: int, done: int) -> None:
        self._title, self._total, self._done, self._before = title, total, done, done
        self._began, self._methods = time.monotonic(), {}
        if not self._live:
            note = f" ({done} already done)" if done else ""
            self._console.print(f"{title}: {total} to do{note}", highlight=False)
        self._show()

    def _step(self, name: str, value: float | None) -> None:
        count, best = self._methods.get(name, (0, None))
        known = [v for v in (best, value) if v is not None]
        self._methods[name] = (count + 1, max(known) if known else None)
        self._done += 1
        if not self._live and self._done == self._total:
            self._console.print(f"{self._title}: done in {_span(time.monotonic() - self._began)}", highlight=False)
        self._show()

    def _show(self) -> None:
        if self._live:
            self._live.update(self._render())

    def _render(self) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(1, self._total), completed=self._done, width=30)
        head.add_row(
            Text(self._title, style="bold"), bar, f"{self._done}/{self._total}", Text(self._left(), style="dim")
        )
        body = Table.grid(padding=(0, 2))
        for name, (count, best) in self._methods.items():
            shown = "" if best is None else f"best selection accuracy {best:.1%}"
            body.add_row(f"  {name}", f"{count} done", Text(shown, style="dim"))
        return Group(head, body)

    def _left(self) -> str:
        """How long the rest takes, as far as what has ended says it. Artifacts are too unlike to say: a head takes
        seconds, activations hours. Of trials, one of each method that has begun must have ended."""
        if self._title == "artifacts":
            return ""
        ran, spent = self._done - self._before, time.monotonic() - self._began
        known = ran and all(count for count, _ in self._methods.values())
        return f"about {_span(spent / ran * (self._total - self._done))} left" if known else "estimating"


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
