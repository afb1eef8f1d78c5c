"""Which features changed: tests over seeds of the effects, against a least change and against movement without meaning.

Shapes: S seeds, D dictionary width.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeft_ray.features.content import Effect, Verdict
from saeft_ray.stats.moderated import Moderated, moderated
from saeft_ray.stats.multiplicity import benjamini_hochberg

Floats = NDArray[np.float64]
LIVE = 0.002  # the least share of images on which a feature that is tested is active


class Tested(NamedTuple):
    """Tests of one method. Where nothing could be tested, `test` or `beyond` is None; both are of the live features
    alone, in their order."""

    live: NDArray[np.bool_]  # (D,)
    mean: Floats  # (D,) mean effect over seeds
    control: Floats | None  # (D,) the same of the dealt movement
    test: Moderated | None
    q: Floats | None
    beyond_q: Floats | None
    alpha: float

    def effect(self, feature: int) -> Effect:
        """What the record shows of one feature."""
        place = int(np.count_nonzero(self.live[:feature]))
        told = self.live[feature] and self.test is not None and self.q is not None
        test, q = (self.test, self.q) if told else (None, None)
        beyond = self.beyond_q[place] if told and self.beyond_q is not None else None
        return Effect(
            mean=float(self.mean[feature]),
            lo=None if test is None else float(test.lo[place]),
            hi=None if test is None else float(test.hi[place]),
            p=None if test is None else float(test.p[place]),
            q=None if q is None else float(q[place]),
            verdict=self.verdict(feature),
            control=None if self.control is None else float(self.control[feature]),
            beyond_q=None if beyond is None else float(beyond),
        )

    def verdict(self, feature: int) -> Verdict:
        if self.q is None or not self.live[feature]:
            return "not tested"
        if self.q[int(np.count_nonzero(self.live[:feature]))] > self.alpha:
            return "not found"
        return "grew" if self.mean[feature] > 0 else "shrank"

    def count(self, verdict: Verdict) -> int:
        """Live features with this verdict."""
        if self.q is None:
            return int(self.live.sum()) if verdict == "not tested" else 0
        changed, up = self.q <= self.alpha, self.mean[self.live] > 0
        told = {"grew": changed & up, "shrank": changed & ~up, "not found": ~changed}
        return int(told[verdict].sum()) if verdict in told else 0

    def beyond(self) -> int:
        """Features that grew or shrank and whose change goes beyond the control."""
        if self.q is None or self.beyond_q is None:
            return 0
        return int(((self.q <= self.alpha) & (self.beyond_q <= self.alpha)).sum())


def assess(
    effects: Floats, control: Floats | None, live: NDArray[np.bool_], least: float = 0.1, alpha: float = 0.05
) -> Tested:
    """Tests of `effects` (S, D), each log2 of a ratio of masses or a difference of two such, paired over seeds.

    A feature changed if its effect exceeds log2(1 + `least`) either way, at a false discovery rate of `alpha` over the
    `live` (D,) features. `control` (S, D) are effects of dealt movement: a change goes beyond it if the difference,
    which has the sign of the effect, is not 0, over the same features.
    """
    test = moderated(effects[:, live], float(np.log2(1 + least)), 1 - alpha)
    q = None if test is None else benjamini_hochberg(test.p)
    mean = effects.mean(0)
    if control is None:
        return Tested(live, mean, None, test, q, None, alpha)
    difference = moderated(effects[:, live] - control[:, live])
    beyond_q = None
    if difference is not None:
        same_side = np.sign(difference.mean) == np.sign(mean[live])
        beyond_q = benjamini_hochberg(np.where(same_side, difference.p, 1.0))
    return Tested(live, mean, control.mean(0), test, q, beyond_q, alpha)


def live(on0: Floats, images: int) -> NDArray[np.bool_]:
    """(D,) whether a feature is active in the frozen model on enough of so many images to be tested."""
    found: NDArray[np.bool_] = (on0 > 0) & (on0 >= LIVE * images)
    return found
