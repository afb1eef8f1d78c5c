"""What changed in a sweep that has ended: computed, told apart from what was registered, kept in the sweep's folder."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from saeft_ray.config.features import Features
from saeft_ray.config.known import unknown
from saeft_ray.errors import UserError
from saeft_ray.features.content import FROZEN, WhatChanged
from saeft_ray.features.each import Map
from saeft_ray.features.files import PAGE
from saeft_ray.features.tables import changes_table, features_table, firings_table
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.redact import redacted
from saeft_ray.storage.store import Store

_log = logging.getLogger(__name__)


class WrittenFeatures(NamedTuple):
    """What changed, and the folder or URL where its page was written."""

    found: WhatChanged
    folder: str

    @property
    def page(self) -> str:
        """The path or URL of features.html."""
        return f"{self.folder}/{PAGE}"

    def features_table(self) -> pa.Table:
        """A line per feature, as in the SQL table `features`."""
        return features_table(self.found)

    def changes_table(self) -> pa.Table:
        """A line per feature × method × against, as in the SQL table `changes`."""
        return changes_table(self.found)

    def firings_table(self) -> pa.Table:
        """A line per method × against × feature × set × class where the feature has mass, as in the SQL table
        `firings`."""
        return firings_table(self.found)


def never_lost(compute: Callable[..., WhatChanged], plan: Plan, ledger: Ledger, store: Store, each: Map) -> WhatChanged:
    """What `compute` finds; where it fails, a content without numbers that says why. A report must not be lost for it:
    only a signal gets through."""
    try:
        return labelled(compute(plan, ledger, store, each=each), ledger.registration())
    except Exception as error:
        _log.warning("what changed could not be computed", exc_info=error)
        words = redacted(str(error) or type(error).__name__)
        return _nothing(plan, f"What changed could not be computed ({type(error).__name__}): {words}")


def labelled(found: WhatChanged, registered: Mapping[str, Any] | None) -> WhatChanged:
    """`found` with a sentence in front where its tests are not those that the sweep registered."""
    before = (registered or {}).get("features")
    if before is None:
        why = "this sweep registered no tests of features before its confirm phase"
    elif (before["alpha"], before["least"]) != (found.alpha, found.least):
        why = (
            f"they use alpha = {found.alpha:g} and a least change of {found.least:g}, but registered were "
            f"{before['alpha']:g} and {before['least']:g}"
        )
    else:
        return found
    return replace(found, sentences=(f"The tests of features are exploratory: {why}.", *found.sentences))


def scoped(
    found: WhatChanged,
    methods: Sequence[str] | None,
    against: str | None,
    sets: Sequence[str] | None,
    words: Sequence[str] | str | None,
) -> WhatChanged:
    """`found` with what was asked for, in its scope and in a sentence in front; as it is where all was."""
    kept = [f"method {label}" for label in methods or ()]
    kept += [f"against {against}"] if against else []
    kept += [f"images of {label}" for label in sets or ()]
    file = words if isinstance(words, str) else "the words that were given" if words else ""
    if not kept and not file:
        return found
    names = f"Features are named after {file}, not after the words of the sweep file." if file else ""
    part_ = f"This is a part of what changed, not all: {', '.join(kept)}." if kept else ""
    return replace(
        found,
        scope=", ".join([*kept, *([f"words of {file}" if isinstance(words, str) else file] if file else [])]),
        sentences=(" ".join(filter(None, (part_, names))), *found.sentences),
    )


def check_asked(plan: Plan, ledger: Ledger, methods: Sequence[str] | None, against: str | None) -> None:
    """Raises UserError for a method that the sweep does not have or that is compared with itself, and for a sweep of
    which nothing can be recorded yet."""
    for label in [*(methods or ()), *([against] if against not in (None, FROZEN) else [])]:
        if label not in plan.config.methods:
            raise UserError(unknown("method", label, plan.config.methods))
    if methods and set(methods) == {against}:
        raise UserError(f"{against!r} is compared with itself; give another method, or none for all")
    if not any(value is not None for value in ledger.results("confirm").values()):
        raise UserError(f"{ledger.url}: no trial of its confirm phase has ended; run the sweep first")


def with_settings(plan: Plan, settings: Mapping[str, Any]) -> Plan:
    """`plan` with other settings of its section `features`; those that are None stay. Raises UserError for those that
    are not what the section takes; recorded files may be gone, which is said where they are read."""
    given = {name: value for name, value in settings.items() if value is not None}
    before = plan.config.features.model_dump()
    try:
        asked = Features.model_validate({"mode": before["mode"], **given})
        section = Features.model_validate({**before, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{first['loc'][0]}: found {first['input']!r}; {first['msg']}") from None
    known = ["selection", *plan.config.data.test_sets()]
    asked = asked if asked.on else asked.model_copy(update={"mode": "summary"})
    if mistakes := [f"{_asked_as(place)}: {words}" for place, words in asked.problems(known)]:
        raise UserError("\n".join(mistakes))
    return Plan(plan.config.model_copy(update={"features": section}), plan.facts)


def _asked_as(place: str) -> str:
    """A place of the section in the words of a door: the number of a set says nothing where `--set` is repeated."""
    name = place.removeprefix("features.")
    return "sets (--set)" if name.startswith("sets.") else name


def part(methods: Sequence[str] | None, against: str | None, sets: Sequence[str] | None) -> str | None:
    """The name of a folder for what these choose; None if they choose nothing, which is all."""
    if methods is against is sets is None:
        return None
    return "-".join(["features", *(methods or ()), *(("against", against) if against else ()), *(sets or ())])


def _nothing(plan: Plan, why: str) -> WhatChanged:
    config = plan.config
    return WhatChanged(
        sweep=config.name, alpha=config.features.alpha, least=config.features.least, baseline=config.report.baseline,
        sets=(), sentences=(), readings=(), features=(), shortcuts=(), similarities=(), specimens=(), missing=(why,),
    )  # fmt: skip
