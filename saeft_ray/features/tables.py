"""What changed as two flat tables for SQL and data frames: a line per feature, and one per feature, method, against."""

from typing import Any

import pyarrow as pa

from saeft_ray.features.content import Feature, FeatureChange, WhatChanged

FEATURES = pa.schema(
    [
        ("feature", pa.int64()),
        ("name", pa.string()),
        ("score", pa.float64()),
        ("p", pa.float64()),
        ("best_word", pa.string()),
        ("live", pa.float64()),
        ("mass", pa.float64()),
        ("found", pa.int64()),
        ("of", pa.int64()),
    ]
)
CHANGES = pa.schema(
    [
        ("feature", pa.int64()),
        ("name", pa.string()),
        ("method", pa.string()),
        ("against", pa.string()),
        ("verdict", pa.string()),
        *((name, pa.float64()) for name in ("mean", "lo", "hi", "p", "q", "control", "beyond_q")),
        *((name, pa.float64()) for name in ("gain", "born", "died", "other_classes")),
        ("shared", pa.string()),
        *((name, pa.float64()) for name in ("shared_shift", "shared_q", "shared_agree")),
    ]
)


def features_table(found: WhatChanged) -> pa.Table:
    """A line per live feature: index, name (null where no word is good enough), live share, mass, stability."""
    return pa.Table.from_pylist([_feature(feature) for feature in found.features], FEATURES)


def changes_table(found: WhatChanged) -> pa.Table:
    """A line per feature × method × against: the effect in log2 with its interval and verdict, and the rest."""
    lines = [_change(feature, change) for feature in found.features for change in feature.changes]
    return pa.Table.from_pylist(lines, CHANGES)


def tables(found: WhatChanged) -> dict[str, pa.Table]:
    """Both by the names that SQL knows them by."""
    return {"features": features_table(found), "changes": changes_table(found)}


def _feature(feature: Feature) -> dict[str, Any]:
    name = feature.name
    return {
        "feature": feature.index,
        "name": name and name.word,
        "score": name and name.score,
        "p": name and name.p,
        "best_word": feature.words[0][0] if feature.words else None,
        "live": feature.live,
        "mass": feature.mass,
        "found": feature.found,
        "of": feature.of,
    }


def _change(feature: Feature, change: FeatureChange) -> dict[str, Any]:
    shared = change.shared
    return {
        "feature": feature.index,
        "name": feature.name and feature.name.word,
        "method": change.method,
        "against": change.against,
        **vars(change.effect),
        "gain": change.gain,
        "born": change.born,
        "died": change.died,
        "other_classes": change.other_classes,
        "shared": shared and shared.word,
        "shared_shift": shared and shared.shift,
        "shared_q": shared and shared.q,
        "shared_agree": shared and shared.agree,
    }
