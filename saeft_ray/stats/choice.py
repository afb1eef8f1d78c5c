"""Rules that choose a configuration from the selection split alone.

Each rule sees a score (selection accuracy) per configuration, in the order in which they were asked, and ranks all that
finished: the first one is chosen, the first few go to the rerank, on whose means the rule is applied again. *Strong* is
a configuration that stays near the frozen model: small KL(frozen ‖ tuned) on the selection split.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[float | None]
"""By configuration; None (or NaN) for one that failed."""

_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a rule says. `order` ranks the configurations that finished; the first `eligible` of it meet `threshold`,
    the least score that the rule accepts. `best` is what the rule `best` would have chosen. `fallback` says in words
    why the rule could not choose, and what was done. `chosen` is None where every configuration failed.
    """

    rule: str
    order: tuple[int, ...]
    eligible: int
    threshold: float | None
    best: int | None
    fallback: str | None = None

    @property
    def chosen(self) -> int | None:
        """The configuration that the rule takes."""
        return self.order[0] if self.order else None


def best(scores: Scores) -> Choice:
    """The highest score; equal scores as first asked."""
    s = _finished(scores)
    order = _by_score(s)
    if not order:
        return _none("best", s)
    top = float(s[order[0]])
    return Choice(rule="best", order=order, eligible=int((s >= top).sum()), threshold=top, best=order[0])


def strongest_within(scores: Scores, kl: Scores, examples: int, se: float = 2.0) -> Choice:
    """The strongest configuration that is as good as the best, as far as `examples` selection images can tell.

    Eligible is a score ≥ max − `se`·√(p(1 − p)/examples), p being the best score: all configurations and seeds are
    scored on the same images, so seeds do not shrink it. The eligible come by their `kl`; equal KL by the higher score,
    then as first asked; an unknown KL last. The others follow by score. A best score of 1 has no standard error: then
    it takes a 1 to be eligible.
    """
    if examples < 1 or not se >= 0:
        raise ValueError(f"needs one selection image or more, not {examples}, and 0 standard errors or more, not {se}")
    s = _finished(scores)
    rule = f"strongest within {se:g} SE"
    if not _by_score(s):
        return _none(rule, s)
    p = float(np.nanmax(s))
    if not -_ROUNDING <= np.nanmin(s) <= p <= 1 + _ROUNDING:
        raise ValueError("scores are accuracies, from 0 to 1")
    return _strongest(rule, s, kl, p - se * math.sqrt(max(0.0, p * (1 - p)) / examples))


def keep_gain(scores: Scores, kl: Scores, plain: float | None, zero_shot: float | None, share: float = 0.5) -> Choice:
    """The strongest configuration that keeps `share` of what plain fine-tuning gains over zero-shot on the selection
    split: score ≥ zero_shot + share·(plain − zero_shot). Unlike standard errors, it does not depend on the number of
    images.

    Where plain fine-tuning gains nothing (or one of the two scores is unknown) there is nothing to keep, and where no
    configuration keeps the share there is none to take: the best score is chosen, and `fallback` says so.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of the gain is from 0 to 1, not {share}")
    s = _finished(scores)
    rule = f"strongest that keeps {share:.0%} of the gain"
    if not _by_score(s):
        return _none(rule, s)
    if plain is None or zero_shot is None or not math.isfinite(plain) or not math.isfinite(zero_shot):
        return _fallen_back(rule, s, None, "the gain of plain fine-tuning over zero-shot is unknown")
    if plain <= zero_shot:
        words = f"plain fine-tuning gains nothing over zero-shot on the selection split ({plain:.4g}, {zero_shot:.4g})"
        return _fallen_back(rule, s, None, words)
    threshold = zero_shot + share * (plain - zero_shot)
    if np.nanmax(s) < threshold - _ROUNDING:
        return _fallen_back(rule, s, threshold, f"no configuration reaches {threshold:.4g} on the selection split")
    return _strongest(rule, s, kl, threshold)


def _strongest(rule: str, s: NDArray[np.float64], kl: Scores, threshold: float) -> Choice:
    moved = np.array([math.inf if v is None or math.isnan(v) else v for v in kl], dtype=np.float64)
    if len(moved) != len(s) or (moved < 0).any():
        raise ValueError(f"needs {len(s)} KL of 0 or more, one a configuration")
    ranked = _by_score(s)
    eligible = sorted((k for k in ranked if s[k] >= threshold - _ROUNDING), key=lambda k: (moved[k], -s[k], k))
    rest = [k for k in ranked if k not in set(eligible)]
    return Choice(
        rule=rule, order=(*eligible, *rest), eligible=len(eligible), threshold=threshold, best=ranked[0]
    )  # fmt: skip


def _fallen_back(rule: str, s: NDArray[np.float64], threshold: float | None, why: str) -> Choice:
    order = _by_score(s)
    words = f"{why}: the best was chosen"
    return Choice(rule=rule, order=order, eligible=0, threshold=threshold, best=order[0], fallback=words)


def _none(rule: str, s: NDArray[np.float64]) -> Choice:
    why = "every configuration failed" if len(s) else "no configuration was asked"
    return Choice(rule=rule, order=(), eligible=0, threshold=None, best=None, fallback=f"{why}: none is chosen")


def _finished(scores: Scores) -> NDArray[np.float64]:
    s = np.array([math.nan if v is None else v for v in scores], dtype=np.float64)
    if np.isinf(s).any():
        raise ValueError("a score is a finite number, or None for a configuration that failed")
    return s


def _by_score(s: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(sorted(np.flatnonzero(~np.isnan(s)).tolist(), key=lambda k: -s[k]))
