"""The end of one trial, asked for by whoever sees the storage: which trials can be asked, and the words for others."""

import difflib
from collections.abc import Sequence

from saeft_ray.errors import UserError
from saeft_ray.orchestration.phases import candidates
from saeft_ray.orchestration.reopen import find_sweep, reopen
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import PHASES
from saeft_ray.records.stops import Request

_NEAR = 10  # names that are listed for one that is unknown


def ask_to_stop(storage: str, trial: str, endpoint: str | None = None) -> Request:
    """Notes that `trial` of the sweep in the folder or URL `storage` is to end for good; returns the request that
    stands, the first one. Nothing of the sweep's code is needed for a trial that has begun.

    Raises UserError for a trial that has ended, and for a name of none that has begun or waits.
    """
    ledger, _, _ = find_sweep(storage, endpoint)
    if trial in ledger.finished():
        raise UserError(f"{ledger.url}: {trial} has {_how(ledger, trial)}; what has ended cannot be stopped")
    try:
        ledger.spec(trial)
    except FileNotFoundError:
        if trial not in (waiting := _waiting(storage, endpoint)):
            raise UserError(_unknown(ledger, trial, waiting)) from None
    return ledger.stops.ask(trial)


def _how(ledger: Ledger, trial: str) -> str:
    """How a trial ended, after `it has`."""
    row = ledger.selection_row(trial)
    if row.value is not None:
        return f"ended, with a selection accuracy of {row.value:.1%}"
    return f"ended ({row.error})" if row.error else "ended"


def _waiting(storage: str, endpoint: str | None) -> list[str]:
    """The trials of the phase under way that nobody has begun yet: names of those to come follow from what has ended,
    except in the search."""
    plan, ledger, _ = reopen(storage, endpoint)
    chosen, counts = ledger.chosen(), plan.counts()
    if chosen is not None:
        specs = [*plan.confirm(chosen, ledger.others(chosen)), *plan.curves(chosen)]
    elif len(ledger.results("search")) == counts["search"]:
        found = enumerate(candidates(plan, ledger))
        specs = [spec for repeat, best in found for spec in plan.rerank(best, {}, repeat)]
    else:
        specs = []
    dealt = {spec.id for phase in PHASES for spec in ledger.asked(phase)}
    return [spec.id for spec in specs if spec.id not in dealt]


def _unknown(ledger: Ledger, trial: str, waiting: Sequence[str]) -> str:
    """Why `trial` cannot be asked, and the names that are near to it among those that can."""
    ended = ledger.finished()
    begun = [spec.id for phase in PHASES for spec in ledger.asked(phase) if spec.id not in ended]
    known = [*begun, *waiting]
    near = [name for name in known if trial and trial in name] or difflib.get_close_matches(trial, known, _NEAR, 0.5)
    listed = ", ".join(near[:_NEAR]) + (", …" if len(near) > _NEAR else "")
    said = f"; near to it are {listed}" if near else "; no name of a trial that has not ended is near to it"
    return f"{ledger.url}: has no trial {trial!r}{said}"
