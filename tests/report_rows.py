"""Synthetic rows that resemble a sweep over digit world, for the tests of the report and the results door."""

import io
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from saeft_ray.records.rows import Row, pack, table
from saeft_ray.storage.checksum import KEY, mark, seal, to_json
from saeft_ray.storage.fingerprint import canonical, fingerprint

SETS = {"ID": 1000, "V2": 1000, "R": 1000, "Sketch": 1000, "ON": 1000, "C": 1000, "UCI": 899, "A": 860}
ROLES = {name: "id" if name == "ID" else "ood" for name in SETS}
TYPES = ("zero_shot", "ft", "wise_ft", "mse", "sae_ft", "random_dictionary")
# Accuracies in %, from the feasibility study of digit world.
LEVELS = {
    "zero_shot": (89.5, 79.3, 84.3, 59.6, 45.3, 83.4, 63.9, 71.8),
    "ft": (93.3, 87.4, 78.8, 43.9, 41.6, 79.5, 60.0, 66.1),
    "wise_ft": (92.9, 85.4, 82.8, 54.1, 44.9, 82.8, 63.6, 71.8),
    "mse": (93.3, 85.8, 82.7, 54.6, 45.1, 83.3, 63.9, 72.3),
    "sae_ft": (93.4, 85.8, 82.6, 54.0, 45.2, 83.2, 63.8, 72.5),
    "random_dictionary": (93.3, 85.7, 82.7, 54.5, 45.2, 83.3, 64.1, 72.4),
}
TUNED = {"wise_ft": "alpha", "mse": "lambda", "sae_ft": "lambda_add", "random_dictionary": "lambda_add"}
OPEN = {"low": 1.0, "high": 10_000.0, "log": True}


def record(**report: Any) -> dict[str, Any]:
    """The `sweep.json` that goes with `rows`; keywords replace entries of its `report` section."""
    rules = {"baseline": "ft", "alpha": 0.05, "margin": None, "compare": [], **report}
    return {
        "name": "quickstart",
        "config": {
            "methods": {name: {"type": name, **({TUNED[name]: OPEN} if name in TUNED else {})} for name in TYPES},
            "report": rules,
            "confirm": {"seeds": 5},
            "search": {"trials": 8},
            "dictionary": {"seeds": 5},
        },
        "versions": {"torch": "2.11.0", "ray": "2.60.0", "open_clip_torch": "3.3.0"},
        "commit": "0123456789abcdef",
        "created": "2026-01-02T03:04:05+00:00",
        "data": {"classes": 10, "sizes": {"train": 1500, "selection": 300, **SETS}, "roles": ROLES},
        "model": {"name": "tiny-clip", "weights": "sha256:6ac0"},
        "suggestions": {
            row.trial: number
            for name in TUNED
            for number, row in enumerate(row for row in _tuning(name) if row.phase == "search")
        },
    }


def rows(
    seeds: int = 5,
    methods: Iterable[str] = TYPES,
    bits: bool = True,
    failed: Iterable[tuple[str, int]] = (),
    search: bool = True,
    shift: Mapping[str, float] | None = None,
    constant: bool = False,
) -> list[Row]:
    """Confirm rows of `seeds` seeds from 1000 on, and search and rerank rows.

    `failed` names (method, seed) pairs that diverged, `shift` adds a fraction to a method's accuracies, `constant`
    gives every seed the same scores.
    """
    shifts = tuple(sorted((shift or {}).items()))
    return list(_rows(seeds, tuple(methods), bits, tuple(failed), search, shifts, constant))


@cache
def _rows(
    seeds: int, methods: tuple[str, ...], bits: bool, failed: tuple[tuple[str, int], ...], search: bool,
    shifts: tuple[tuple[str, float], ...], constant: bool,
) -> list[Row]:  # fmt: skip
    shift = dict(shifts)
    out: list[Row] = []
    difficulty = {d: np.random.default_rng(7 + i).random(n) for i, (d, n) in enumerate(SETS.items())}
    for method in methods:
        settings = canonical({"type": method, **({TUNED[method]: 300} if method in TUNED else {})})
        for seed in [None] if method == "zero_shot" else range(1000, 1000 + seeds):
            out += _trial(method, settings, seed, difficulty, bits, (method, seed) in set(failed), shift, constant)
        if search and method in TUNED:
            out += _tuning(method)
    return out


def _trial(
    method: str, settings: str, seed: int | None, difficulty: Mapping[str, Any], bits: bool, failed: bool,
    shift: Mapping[str, float] | None, constant: bool,
) -> list[Row]:  # fmt: skip
    shared = np.random.default_rng(0 if constant else seed or 0)
    own = np.random.default_rng([0 if constant else seed or 0, TYPES.index(method) if method in TYPES else 99])
    common = {
        "sweep": "quickstart", "phase": "confirm", "method": method, "configuration": fingerprint(settings),
        "settings": settings, "seed": seed, "trial": fingerprint([settings, seed, "confirm"]),
    }  # fmt: skip
    if failed:
        nothing = {"dataset": "train", "role": "train", "metric": "accuracy", "value": None}
        return [Row(**common, **nothing, status="failed", error="loss is nan at step 12")]
    out = []
    for dataset, level, n in zip(SETS, LEVELS.get(method, LEVELS["ft"]), SETS.values(), strict=True):
        noise = shared.normal(0, 0.010) + own.normal(0, 0.004)
        chance = level / 100 + (shift or {}).get(method, 0) + (0 if seed is None else noise)
        score = difficulty[dataset] + (0 if seed is None else own.normal(0, 0.03, n))
        correct = score < np.quantile(score, min(0.999, chance))
        out.append(
            Row(
                **common,
                dataset=dataset,
                role=ROLES[dataset],
                metric="accuracy",
                value=float(correct.mean()),
                n=n,
                examples=fingerprint([dataset, n]),
                correct=pack(correct) if bits else None,
            )
        )
    return out


def _tuning(method: str) -> list[Row]:
    rng = np.random.default_rng(TYPES.index(method))
    values = [3, 10, 30, 100, 300, 1000, 3000, 10000]
    plan = [("search", value, 0) for value in values]
    plan += [("rerank", value, seed) for value in (100, 300) for seed in (11, 12, 13)]
    out = []
    for phase, value, seed in plan:
        settings = canonical({"type": method, TUNED[method]: value})
        accuracy = 0.93 - 0.01 * abs(np.log10(value / 300)) + rng.normal(0, 0.003)
        out.append(
            Row(
                sweep="quickstart",
                phase=phase,
                method=method,
                configuration=fingerprint(settings),
                settings=settings,
                seed=seed,
                trial=fingerprint([settings, seed, phase]),
                dataset="selection",
                role="selection",
                metric="accuracy",
                value=float(accuracy),
                n=300,
                examples="selection",
            )
        )
    return out


def settings_of(text: str) -> dict[str, Any]:
    """Canonical settings as a dict."""
    return dict(json.loads(text))


def put_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file of a sweep as its ledger does, checksum and all."""
    path.write_bytes(to_json(content))


def put_rows(path: Path, rows: Iterable[Row]) -> None:
    buffer = io.BytesIO()
    pq.write_table(table(rows).replace_schema_metadata({KEY: mark()}), buffer)
    path.write_bytes(seal(buffer.getvalue()))
