"""What a sweep file adds to the sweep of its name that exists, in words: what is new, what is kept, what it costs."""

from collections.abc import Mapping
from typing import Any

from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.plan_words import time_left
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.store import Store


def in_words(plan: Plan, store: Store, ledger: Ledger, record: Mapping[str, Any]) -> str:
    """What `record`, that of `plan`, adds; "" where there is no such sweep, no trial of it, or nothing to add."""
    try:
        grown = ledger.growth(record)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if grown.refused or not grown.added or not ledger.has_trials():
        return ""
    seen, before = grown.seen, ledger.record()["data"]["roles"]
    return "\n".join(
        (
            f"{ledger.url}: exists, and the file adds to it:",
            *(f"  new: {words}" for words in grown.added),
            f"  kept: {seen.in_words()}",
            f"  cost: {_cost(plan, store, seen.ended.get('confirm', 0), plan.config.data.test_sets().keys() - before)}",
            *([_honesty(grown.added)] if seen.registered else []),
        )
    )


def refused(ledger: Ledger, record: Mapping[str, Any]) -> str:
    """Why the sweep of this name cannot be continued as `record` has it; "" where it can."""
    try:
        grown = ledger.growth(record)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if not grown.refused or not ledger.has_trials():
        return ""
    return f"{ledger.url}: a sweep of this name exists, and cannot become this one:\n  " + "\n  ".join(grown.refused)


def _cost(plan: Plan, store: Store, confirmed: int, sets: set[str]) -> str:
    further = f"{confirmed} stored end points are scored on {', '.join(sorted(sets))}. " if sets and confirmed else ""
    return further + time_left(plan, store)


def _honesty(added: list[str]) -> str:
    more = any(words.startswith("confirm.seeds") for words in added)
    seeds = (
        " More seeds test what is undecided at a tenth of the error level, and change no verdict that stands."
        if more
        else ""
    )
    return (
        "  The confirm phase is registered: its analysis stays as it is, and the report says what was added and what "
        f"had been seen by then.{seeds}"
    )
