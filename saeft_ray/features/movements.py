"""How much every method changed, in the eyes of one dictionary."""

import numpy as np
from numpy.typing import NDArray

from saeft_ray.features import testing
from saeft_ray.features.change import shares, total
from saeft_ray.features.comparisons import effects
from saeft_ray.features.compute import TrialRecord
from saeft_ray.features.content import Movement


def movement(method: str, records: list[TrialRecord], live: NDArray[np.bool_], least: float, alpha: float) -> Movement:
    """Means over the seeds of a method; `live` (D,) says which features are tested."""
    found = effects(records, live)
    tests = testing.assess(found.real, found.control, live, least, alpha)
    changes = [shares(total(list(record.changes.values()))) for record in records]
    seen = {name: mean_of_known([getattr(record.seen, name) for record in records]) for name in records[0].seen._fields}
    return Movement(
        method=method,
        seeds=len(records),
        moved=seen["moved"] or 0.0,
        seen=seen["seen"],
        drift=seen["drift"],
        fvu0=seen["fvu0"],
        fvu=seen["fvu"],
        **{name: float(np.mean([each[name] for each in changes])) for name in changes[0]},
        grew=tests.count("grew"),
        shrank=tests.count("shrank"),
        beyond=tests.beyond(),
    )


def mean_of_known(values: list[float | None]) -> float | None:
    """The mean of those that are not None; None if there are no such."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
