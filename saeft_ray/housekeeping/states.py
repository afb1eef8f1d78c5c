"""How far each sweep of a storage is, and how many bytes are whose."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from saeft_ray.housekeeping.inventory import Name, changed, size
from saeft_ray.housekeeping.ownership import Ownership
from saeft_ray.orchestration.confirm import SequentialQueue
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.merged import made_of
from saeft_ray.records.rows import PHASES, Row


@dataclass(frozen=True)
class State:
    """One sweep. `bytes` are those of its folder and of all artifacts that it names, of its folder alone where these
    are not known (`at_least`); `changed` is in seconds since 1970."""

    sweep: str
    state: str
    progress: str
    created: str
    changed: float | None
    bytes: int
    at_least: bool


class Share(NamedTuple):
    """Bytes of one sweep: its folder, the artifacts that it alone names, those that others name too."""

    sweep: str
    folder: int
    own: int
    shared: int


class OfKind(NamedTuple):
    """All artifacts of one kind; `shared` are bytes that several sweeps name, `unnamed` those that none does."""

    kind: str
    artifacts: int
    bytes: int
    shared: int
    unnamed: int


def states(found: Ownership) -> list[State]:
    """Every sweep of a storage, by name."""
    return [_state(found, sweep) for sweep in _sweeps(found)]


def shares(found: Ownership) -> list[Share]:
    """Whose bytes they are, by sweep."""
    return [_share(found, sweep) for sweep in _sweeps(found)]


def kinds(found: Ownership) -> list[OfKind]:
    """What the bytes are, by kind of artifact; builds without a manifest are counted with what they were to be."""
    lines = []
    for kind in sorted({name.kind for name in found.inventory.artifacts}):
        names = [name for name in found.inventory.artifacts if name.kind == kind]
        several = [name for name in names if len(found.owners.get(name, ())) > 1]
        nobody = [name for name in names if not found.owners.get(name)]
        lines.append(OfKind(kind, len(names), *(bytes_of(found, some) for some in (names, several, nobody))))
    return lines


def bytes_of(found: Ownership, names: Iterable[Name]) -> int:
    """Bytes of all files of these artifacts."""
    return sum(size(found.inventory.artifacts[name].values()) for name in names)


def _sweeps(found: Ownership) -> list[str]:
    return sorted({*found.inventory.sweeps, *found.accounts, *found.unaccounted})


def _share(found: Ownership, sweep: str) -> Share:
    named, alone = found.named(sweep)
    own = bytes_of(found, alone)
    return Share(sweep, size(found.inventory.sweeps.get(sweep, {}).values()), own, bytes_of(found, named) - own)


def _state(found: Ownership, sweep: str) -> State:
    files = found.inventory.sweeps.get(sweep, {}).values()
    state, progress, created = "empty", "nothing was begun", ""
    if sweep in found.accounts or sweep in found.unaccounted:
        try:
            plan, ledger = _opened(found, sweep)
            created = str(ledger.record().get("created", ""))
            ended, progress = _progress(plan, ledger)
            state = "ended" if ended else "unfinished"
        except Exception:  # one sweep of another version must not hide the others
            state, progress = "unknown", found.unaccounted.get(sweep, "cannot be read")
    if sweep in found.running:
        owner = found.running[sweep]
        state = f"running on {owner.host} since {owner.since}"
    least = sweep in found.unaccounted
    return State(sweep, state, progress, created, changed(files), sum(_share(found, sweep)[1:]), least)


def _opened(found: Ownership, sweep: str) -> tuple[Plan, Ledger]:
    if one := found.accounts.get(sweep):
        return one.plan, one.ledger
    plan, ledger, _ = reopen(f"{found.store.url}/sweeps/{sweep}", found.store.endpoint)
    return plan, ledger


def _progress(plan: Plan, ledger: Ledger) -> tuple[bool, str]:
    """Whether all trials have ended, and in words how far the last phase that has begun is."""
    ended, last = ledger.finished(), PHASES[-1]
    if made := made_of(ledger.record()):
        return True, made
    counts, done = plan.counts(), {phase: sum(t.startswith(f"{phase}-") for t in ended) for phase in PHASES}
    chosen = ledger.chosen()
    if chosen is None:
        phase = next((phase for phase in PHASES if done[phase] < counts.get(phase, 0)), last)
        return False, f"{phase} {done[phase]} of {counts[phase]} trials"
    wanted = plan.confirm(chosen, ledger.others(chosen))
    left = len({spec.id for spec in wanted} - ended)
    registered = ledger.registration()
    if plan.config.confirm.until and registered is not None:
        left = SequentialQueue(wanted, registered, _Quiet(ledger)).remaining
    if not left and (points := {spec.id for spec in plan.curves(chosen)}):
        return points <= ended, f"curves {len(points & ended)} of {len(points)} trials"
    decided = " (all decided)" if not left and done["confirm"] < len(wanted) else ""
    return not left, f"confirm {done['confirm']} of {len(wanted)} trials{decided}"


@dataclass(frozen=True)
class _Quiet:
    """A ledger for looking: a look that is due is not written down."""

    ledger: Ledger

    def finished(self) -> set[str]:
        return self.ledger.finished()

    def rows(self, trial: str) -> list[Row]:
        return self.ledger.rows(trial)

    def look(self, look: object) -> None:
        pass
