"""Shortcuts of every method: the reliance of each of its trials, over seeds, with the candidates."""

import numpy as np
from scipy import stats

from saeft_ray.draws import seed_of
from saeft_ray.features import shortcuts
from saeft_ray.features.comparisons import Comparison
from saeft_ray.features.content import FROZEN, Shortcut
from saeft_ray.features.frozen import Frozen
from saeft_ray.features.naming import Named


def reliances(
    comparisons: list[Comparison], named: Named, frozen: Frozen, seed: int, alpha: float, missing: list[str]
) -> tuple[Shortcut, ...]:
    """One for each method, from its comparison with the frozen model; none where no feature or no word allows it."""
    class_of = named.class_of()
    other = np.array([word.label_of is None for word in named.bank.words], bool)
    if not named.bank.words:
        return ()
    if not other.any():
        missing.append("Shortcuts are not looked for: no word is not a class; give features.words.")
        return ()
    if not (class_of >= 0).any():
        missing.append("Shortcuts are not looked for: no feature is named after a class.")
        return ()
    images = shortcuts.Images(frozen.x, frozen.labels, frozen.sets)
    return tuple(
        _of(c, images, named, other, seed_of("shortcuts", seed), alpha) for c in comparisons if c.against == FROZEN
    )


def _of(c: Comparison, images: shortcuts.Images, named: Named, other: np.ndarray, seed: int, alpha: float) -> Shortcut:
    class_of, bank = named.class_of(), named.bank
    trials = [
        shortcuts.reliance(images, fresh, control, named.on0, class_of, bank.embeddings, other, seed)
        for fresh, control in zip(c.fresh, c.dealt, strict=True)
    ]
    values = np.array([trial.value for trial in trials])
    lo = hi = None
    if len(values) > 1:
        half = float(stats.t.ppf(1 - alpha / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        lo, hi = float(values.mean()) - half, float(values.mean()) + half
    names = {word.label_of: word.label for word in bank.words if word.label_of is not None}
    found = shortcuts.candidates(trials, class_of, other)
    return Shortcut(
        method=c.method,
        value=float(values.mean()),
        lo=lo,
        hi=hi,
        candidates=tuple((names[each.cls], bank.labels[each.word], each.shift) for each in found),
    )
