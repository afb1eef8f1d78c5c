"""What changed as flat tables for SQL and data frames: a line per feature, one per feature, method and against, and one
for each class of each set where a feature fires."""

from typing import Any

import pyarrow as pa

from saeft_ray.features.content import Feature, FeatureChange, WhatChanged
from saeft_ray.features.judged import factor, sure

FEATURES = pa.schema(
    [
        ("feature", pa.int64()),
        ("name", pa.string()),
        ("score", pa.float64()),
        ("p", pa.float64()),
        ("p_score", pa.float64()),
        ("best_word", pa.string()),
        ("live", pa.float64()),
        ("mass", pa.float64()),
        ("found", pa.int64()),
        ("of", pa.int64()),
        ("found_active", pa.int64()),
    ]
)
CHANGES = pa.schema(
    [
        ("feature", pa.int64()),
        ("name", pa.string()),
        ("method", pa.string()),
        ("against", pa.string()),
        ("verdict", pa.string()),
        ("sure", pa.bool_()),
        ("effect", pa.float64()),
        *((name, pa.float64()) for name in ("mean", "lo", "hi", "p", "q", "control", "beyond_q")),
        *((name, pa.float64()) for name in ("gain", "born", "died", "other_classes")),
        ("shared", pa.string()),
        *((name, pa.float64()) for name in ("shared_shift", "shared_q", "shared_agree")),
        ("new_class", pa.string()),
        *((name, pa.float64()) for name in ("new_class_share", "old_class_share")),
        ("new_set", pa.string()),
        *((name, pa.float64()) for name in ("new_set_share", "old_set_share")),
    ]
)
FIRINGS = pa.schema(
    [
        ("method", pa.string()),
        ("against", pa.string()),
        ("feature", pa.int64()),
        ("set", pa.string()),
        ("class", pa.string()),
        *((name, pa.float64()) for name in ("mass_before", "mass", "newly_active", "no_longer_active")),
    ]
)


def features_table(found: WhatChanged) -> pa.Table:
    """A line per live feature: index, name (null where no word is good enough), live share, mass, stability."""
    return pa.Table.from_pylist([_feature(feature) for feature in found.features], FEATURES)


def changes_table(found: WhatChanged) -> pa.Table:
    """A line per feature × method × against: the effect as a factor, in log2 with its interval, and the rest."""
    lines = [_change(feature, change, found.alpha) for feature in found.features for change in feature.changes]
    return pa.Table.from_pylist(lines, CHANGES)


def firings_table(found: WhatChanged) -> pa.Table:
    """A line per method × against × feature × set × class where the feature has mass: the mass before and after, and
    the images on which it is newly active and no longer, as means over seeds."""
    return FIRINGS.empty_table() if found.firings is None else found.firings


def tables(found: WhatChanged) -> dict[str, pa.Table]:
    """Those of features.json by the names that SQL knows them by."""
    return {"features": features_table(found), "changes": changes_table(found)}


def _feature(feature: Feature) -> dict[str, Any]:
    name = feature.name
    return {
        "feature": feature.index,
        "name": name and name.word,
        "score": name and name.score,
        "p": name and name.p,
        "p_score": name and name.p_score,
        "best_word": feature.words[0][0] if feature.words else None,
        "live": feature.live,
        "mass": feature.mass,
        "found": feature.found,
        "of": feature.of,
        "found_active": feature.found_active,
    }


def _change(feature: Feature, change: FeatureChange, alpha: float) -> dict[str, Any]:
    shared = change.shared
    of_class, of_set = (next(iter(shares), None) for shares in (change.new_classes, change.new_sets))
    return {
        "feature": feature.index,
        "name": feature.name and feature.name.word,
        "method": change.method,
        "against": change.against,
        **vars(change.effect),
        "sure": sure(change, alpha),
        "effect": factor(change.effect.mean),
        "gain": change.gain,
        "born": change.born,
        "died": change.died,
        "other_classes": change.other_classes,
        "shared": shared and shared.word,
        "shared_shift": shared and shared.shift,
        "shared_q": shared and shared.q,
        "shared_agree": shared and shared.agree,
        "new_class": of_class and of_class.label,
        "new_class_share": of_class and of_class.new,
        "old_class_share": of_class and of_class.old,
        "new_set": of_set and of_set.label,
        "new_set_share": of_set and of_set.new,
        "old_set_share": of_set and of_set.old,
    }
