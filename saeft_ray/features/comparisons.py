"""Methods against the frozen model and against each other, feature by feature, paired over seeds.

Shapes: S seeds, N images, D dictionary width.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray.features import testing
from saeft_ray.features.activity import Matrix, counts
from saeft_ray.features.change import Floats, effect, total
from saeft_ray.features.compute import TrialRecord
from saeft_ray.features.content import FROZEN
from saeft_ray.features.frozen import Frozen
from saeft_ray.features.testing import Tested

Records = dict[str, list[TrialRecord]]  # by method, in the order of seeds


class Comparison(NamedTuple):
    """A method against another or the frozen model. `fresh`, `gone`, `dealt`: (N, D) sparse ones per seed, where a
    feature is newly active, no longer, and newly after dealt movement (against the frozen model alone)."""

    method: str
    against: str
    tested: Tested
    gain: Floats  # (D,) NaN where it is not defined in any seed
    fresh: list[Matrix]
    gone: list[Matrix]
    dealt: list[Matrix]
    strength: Matrix  # (N, D) of newly active pairs the mean over seeds, else the frozen activation
    before: Matrix  # (sets × C, D) mass of what it is compared with, by cell as in `frozen.of_cell`, mean over seeds
    after: Matrix  # (sets × C, D) the same of the method

    def born(self) -> Floats:
        """(D,) mean number of images on which a feature is newly active."""
        return np.asarray(np.mean([counts(each) for each in self.fresh], axis=0))

    def died(self) -> Floats:
        """(D,) mean number of images on which a feature is active no longer."""
        return np.asarray(np.mean([counts(each) for each in self.gone], axis=0))


class Effects(NamedTuple):
    """Of each seed, the effects of a method and of its dealt movement."""

    real: Floats  # (S, D)
    control: Floats  # (S, D)


def effects(records: list[TrialRecord], live: NDArray[np.bool_]) -> Effects:
    """Effects over all sets together."""
    changes = [total(list(record.changes.values())) for record in records]
    dealt = [np.sum(list(record.dealt.values()), axis=0) for record in records]
    real = np.stack([effect(each.mass0, each.mass, live) for each in changes])
    control = np.stack([effect(each.mass0, mass, live) for each, mass in zip(changes, dealt, strict=True)])
    return Effects(real, control)


def to_frozen(
    method: str, records: list[TrialRecord], frozen: Frozen, active: Matrix, live: NDArray[np.bool_], least: float,
    alpha: float,
) -> Comparison:  # fmt: skip
    """What a method did to features that are `active` (N, D) in the frozen model."""
    width = active.shape[1]
    found = effects(records, live)
    return Comparison(
        method=method,
        against=FROZEN,
        tested=testing.assess(found.real, found.control, live, least, alpha),
        gain=_mean(np.stack([record.gain for record in records])),
        fresh=[frozen.pooled(record.born, width) for record in records],
        gone=[frozen.pooled(record.died, width) for record in records],
        dealt=[frozen.pooled(record.dealt_born, width) for record in records],
        strength=active + _strength(records, frozen, width),
        before=(frozen.of_cell.T @ active).tocsr(),
        after=_by_cell(records, frozen, width),
    )


def to_method(
    method: str, against: str, records: Records, frozen: Frozen, active: Matrix, live: NDArray[np.bool_], least: float,
    alpha: float,
) -> Comparison | None:  # fmt: skip
    """What `method` did that `against` did not, on the seeds that both have; None if there is no such seed."""
    ours, theirs = ({record.number: record for record in records[name]} for name in (method, against))
    numbers = sorted(ours.keys() & theirs.keys())
    if not numbers:
        return None
    mine, other = ([each[number] for number in numbers] for each in (ours, theirs))
    a, b = effects(mine, live), effects(other, live)
    width = active.shape[1]
    moved = [_signed(p, frozen, width) - _signed(q, frozen, width) for p, q in zip(mine, other, strict=True)]
    return Comparison(
        method=method,
        against=against,
        tested=testing.assess(a.real - b.real, a.control - b.control, live, least, alpha),
        gain=_mean(np.stack([p.gain - q.gain for p, q in zip(mine, other, strict=True)])),
        fresh=[_ones(each > 0) for each in moved],
        gone=[_ones(each < 0) for each in moved],
        dealt=[],
        strength=active + _strength(mine, frozen, width) + _strength(other, frozen, width),
        before=_by_cell(other, frozen, width),
        after=_by_cell(mine, frozen, width),
    )


def _signed(record: TrialRecord, frozen: Frozen, width: int) -> Matrix:
    """1 where a feature is newly active, −1 where it is no longer."""
    return frozen.pooled(record.born, width) - frozen.pooled(record.died, width)


def _strength(records: list[TrialRecord], frozen: Frozen, width: int) -> Matrix:
    pooled = [frozen.pooled(record.born, width, record.strength) for record in records]
    return sum(pooled[1:], pooled[0]) / len(pooled)


def _by_cell(records: list[TrialRecord], frozen: Frozen, width: int) -> Matrix:
    masses = [frozen.by_cell(record.by_class, width) for record in records]
    return sum(masses[1:], masses[0]) / len(masses)


def _ones(matrix: Matrix) -> Matrix:
    found = matrix.astype(np.float32).tocsc()
    found.eliminate_zeros()
    return found


def _mean(values: Floats) -> Floats:
    """Mean over the seeds where a number is defined."""
    known = np.isfinite(values)
    mean = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known.any(0), mean, np.nan)
