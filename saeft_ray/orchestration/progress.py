"""What a person sees while a sweep runs: one calm display on a terminal, a line per event and minute elsewhere."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from saeft_ray.orchestration.plan import Artifact
from saeft_ray.orchestration.tally import Tally, values_of, where
from saeft_ray.records.course import Course
from saeft_ray.records.rows import Phase
from saeft_ray.records.state import span
from saeft_ray.records.trial_spec import TrialSpec

_SHOWN = 8  # running trials on a terminal


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

    def failed(self, spec: TrialSpec, why: str) -> None: ...

    def ended(self, spec: TrialSpec, selection: float | None, course: Course | None = None) -> None: ...

    def stopped(self, spec: TrialSpec, why: str) -> None: ...

    def beat(self, signs: Mapping[str, Mapping[str, Any]]) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Progress(Quiet):
    """Phase, method, trials done and running, best selection accuracy so far, time left."""

    def __init__(self, console: Console):
        self._console, self._tally = console, Tally()
        self._live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
        self._signs: Mapping[str, Mapping[str, Any]] = {}

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
        self._tally.step(artifact.kind, None)
        self._stepped()

    def phase(self, phase: Phase, total: int, done: int) -> None:
        self._begin(phase, total, done)

    def started(self, spec: TrialSpec) -> None:
        self._tally.started(spec)
        self._show()

    def failed(self, spec: TrialSpec, why: str) -> None:
        self._tally.failures += 1

    def ended(self, spec: TrialSpec, selection: float | None, course: Course | None = None) -> None:
        self._tally.ended(spec, selection)
        self._say(self._ended(spec, selection, course))
        self._stepped()

    def stopped(self, spec: TrialSpec, why: str) -> None:
        self._tally.ended(spec, None)
        self._say(f"{_named(spec)}: {why} ({self._tally.done} of {self._tally.total})")
        self._stepped()

    def beat(self, signs: Mapping[str, Mapping[str, Any]]) -> None:
        self._signs = signs
        self._say(self._tally.line(signs))
        self._show()

    def _begin(self, title: str, total: int, done: int) -> None:
        self._tally.begin(title, total, done)
        self._say(f"{title}: {total} to do" + (f" ({done} already done)" if done else ""))
        self._show()

    def _stepped(self) -> None:
        if self._tally.done == self._tally.total:
            self._say(f"{self._tally.title}: done in {span(self._tally.spent)}")
        self._show()

    def _ended(self, spec: TrialSpec, selection: float | None, course: Course | None) -> str:
        """The line of one trial."""
        came = "failed" if selection is None else f"selection accuracy {selection:.1%}"
        took = "" if course is None else f", {span(course.ended - course.began)} on {course.node}"
        if course is not None and course.taken_from:
            took = f", taken from {course.taken_from}"
        return f"{_named(spec)}: {came}{took} ({self._tally.done} of {self._tally.total})"

    def _say(self, line: str) -> None:
        """One line where there is no display that changes; whatever its length, it is not folded."""
        if not self._live:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _show(self) -> None:
        if self._live:
            self._live.update(self._render())

    def _render(self) -> RenderableType:
        tally, head, body = self._tally, Table.grid(padding=(0, 2)), Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(1, tally.total), completed=tally.done, width=30)
        left = Text(tally.left_in_words(), style="dim")
        head.add_row(Text(tally.title, style="bold"), bar, f"{tally.done}/{tally.total}", left)
        for name, (count, best) in tally.methods.items():
            shown = "" if best is None else f"best selection accuracy {best:.1%}"
            body.add_row(f"  {name}", f"{count} done", Text(shown, style="dim"))
        for name in list(tally.running)[:_SHOWN]:
            sign = self._signs.get(name)
            body.add_row(Text(f"  {name}", style="dim"), "running", Text(where(sign) if sign else "", style="dim"))
        if tally.failures:
            body.add_row("  failures", str(tally.failures), "")
        return Group(head, body)


def _named(spec: TrialSpec) -> str:
    """A trial by its phase, method, values and seed."""
    seed = "" if spec.seed is None else f"seed {spec.seed}"
    return " ".join(filter(None, (spec.phase, spec.method, values_of(spec), seed)))
