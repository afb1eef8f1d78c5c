"""How often a rule would choose about the same strength on other selection images."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saeft_ray.stats.choice import Choice, Scores

Rule = Callable[[Scores], Choice]
"""A rule of `choice.py` of which all but the scores is given."""

_DRAWS = 2_000


@dataclass(frozen=True, kw_only=True)
class ChoiceNoise:
    """`steady` is the share of draws in which the chosen strength moved by less than `step`, a factor; `chosen_in` the
    share of draws that chose each configuration. `paired` says whether the draws were of images."""

    steady: float
    chosen_in: tuple[float, ...]
    step: float
    draws: int
    paired: bool


def choice_noise(
    rule: Rule, scores: Scores, strength: ArrayLike, examples: int, generator: np.random.Generator,
    bits: ArrayLike | None = None, draws: int = _DRAWS,
) -> ChoiceNoise | None:  # fmt: skip
    """Redraw the selection accuracies by their own noise, and apply `rule` to each draw.

    With `bits` (m configurations, N images), 1 where an image was right, or its mean over seeds, draws are of images
    with replacement, the same for all configurations: what they have in common cancels, as in the choice itself. Rows
    of failed configurations are ignored. Without, each score is redrawn as a binomial share of `examples` images, on
    its own; as configurations agree on most images, that overstates the noise.

    `strength` (m,) > 0 is the scale of a configuration's lambdas, or its KL. One grid step is the mean gap between
    neighbouring distinct strengths of the configurations that finished, in log: on a log grid its spacing. Steady is a
    draw whose choice c* has |log strength(c*) − log strength(c)| < one step, c being the rule's choice on `scores`: on
    a grid, the same strength. With one strength alone nothing can move, and the step is 1. None where every
    configuration failed. What else the rule is given (KL, the scores of other methods) is not redrawn.
    """
    if draws < 1 or examples < 1:
        raise ValueError(f"needs one draw and one image or more, not {draws} and {examples}")
    s = np.array([math.nan if v is None else v for v in scores], dtype=np.float64)
    log = _log(strength, len(s))
    now = rule(scores).chosen
    if now is None:
        return None
    finished = ~np.isnan(s)
    distinct = np.unique(log[finished])
    step = float(np.ptp(distinct)) / (len(distinct) - 1) if len(distinct) > 1 else 0.0
    redrawn = np.full((draws, len(s)), math.nan)
    if bits is None:
        redrawn[:, finished] = (
            generator.binomial(examples, np.clip(s[finished], 0, 1), (draws, finished.sum())) / examples
        )
    else:
        redrawn[:, finished] = _other_images(_matrix(bits, len(s), examples)[finished], draws, generator)
    chosen = np.array([rule([None if math.isnan(v) else v for v in row]).chosen for row in redrawn.tolist()])
    moved = np.abs(log[chosen] - log[now])
    return ChoiceNoise(
        steady=float((moved < step * (1 - 1e-9)).mean()) if step else 1.0,
        chosen_in=tuple((np.bincount(chosen, minlength=len(s)) / draws).tolist()),
        step=math.exp(step), draws=draws, paired=bits is not None,
    )  # fmt: skip


def _other_images(right: NDArray[np.float64], draws: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """The accuracies (draws, m) of `right` (m, N) on N images drawn with replacement."""
    images = right.shape[1]
    # How often each image is drawn is multinomial; a draw at a time keeps memory at N.
    return np.stack([right @ generator.multinomial(images, np.full(images, 1 / images)) / images for _ in range(draws)])


def _matrix(bits: ArrayLike, configurations: int, examples: int) -> NDArray[np.float64]:
    right = np.asarray(bits, dtype=np.float64)
    if right.shape != (configurations, examples):
        raise ValueError(f"bits are of shape ({configurations}, {examples}), not {right.shape}")
    return right


def _log(strength: ArrayLike, configurations: int) -> NDArray[np.float64]:
    given = np.asarray(strength, dtype=np.float64)
    if given.shape != (configurations,) or not (np.isfinite(given) & (given > 0)).all():
        raise ValueError(f"needs {configurations} positive strengths, one a configuration")
    return np.log(given)
