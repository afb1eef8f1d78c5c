"""What changed for programs: JSON that gives the same content back, and CSV with a line per feature and method."""

import csv
import io
import json
import types
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from saeft_ray.errors import UserError
from saeft_ray.features.content import Feature, FeatureChange, WhatChanged

_COLUMNS = (
    "feature", "name", "name_f1", "name_p", "live", "mass", "found", "of", "method", "against", "log2_effect", "lo",
    "hi", "p", "q", "verdict", "control", "beyond_q", "gain", "born", "died", "other_classes", "shared_word",
    "shared_shift", "shared_q", "shared_agree", "words",
)  # fmt: skip


def as_json(what: WhatChanged) -> str:
    """Everything. A number that does not exist is null."""
    return json.dumps(asdict(what), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> WhatChanged:
    """The content that `as_json` wrote. Raises UserError for any other text."""
    try:
        made = _as(WhatChanged, json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"features.json: not the features of a sweep ({error}); write the report again") from error
    assert isinstance(made, WhatChanged)
    return made


def as_csv(what: WhatChanged) -> str:
    """A line per feature and method; a feature without a change has one line. Effects are log2 of a ratio."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for feature in what.features:
        for change in feature.changes or (None,):
            row = _feature(feature) | (_change(change) if change else {})
            writer.writerow({name: value for name, value in row.items() if value is not None})
    return out.getvalue()


def _feature(f: Feature) -> dict[str, object]:
    name = f.name
    return {
        "feature": f.index, "name": name and name.word, "name_f1": name and name.score, "name_p": name and name.p,
        "live": f.live, "mass": f.mass, "found": f.found, "of": f.of,
        "words": "; ".join(f"{word} {score:.4g}" for word, score in f.words),
    }  # fmt: skip


def _change(c: FeatureChange) -> dict[str, object]:
    e, s = c.effect, c.shared
    return {
        "method": c.method, "against": c.against, "log2_effect": e.mean, "lo": e.lo, "hi": e.hi, "p": e.p, "q": e.q,
        "verdict": e.verdict, "control": e.control, "beyond_q": e.beyond_q, "gain": c.gain, "born": c.born,
        "died": c.died, "other_classes": c.other_classes, "shared_word": s and s.word, "shared_shift": s and s.shift,
        "shared_q": s and s.q, "shared_agree": s and s.agree,
    }  # fmt: skip


def _as(kind: Any, value: Any) -> Any:
    """`value` of JSON as the type `kind` of a field."""
    if get_origin(kind) in (Union, types.UnionType):
        return None if value is None else _as(next(k for k in get_args(kind) if k is not type(None)), value)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if inner[-1] is Ellipsis:
            return tuple(_as(inner[0], each) for each in value)
        return tuple(_as(k, each) for k, each in zip(inner, value, strict=True))
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: _as(hints[f.name], value[f.name]) for f in fields(kind)})  # type: ignore[operator]
    return float(value) if kind is float else value
