"""What changed in a sweep: the records of its trials, tested over seeds and put together. It names no features; names,
shared words, shortcuts and stability are put in by `dataclasses.replace` on what this returns.

Shapes: S seeds, D dictionary width.
"""

import numpy as np
import torch

from saeft_ray.errors import UserError
from saeft_ray.features import testing
from saeft_ray.features.change import effect, shares, total
from saeft_ray.features.compute import TrialRecord, record_of_trial, sets_of, trials
from saeft_ray.features.content import Movement, Reading, Similarity, WhatChanged
from saeft_ray.features.readers import KINDS, Kind
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.storage.store import Store

Records = dict[str, list[TrialRecord]]  # by method


def what_changed(
    plan: Plan, ledger: Ledger, store: Store, device: torch.device, kinds: tuple[Kind, ...] = KINDS, least: float = 0.1
) -> WhatChanged:
    """Reads every finished trial through every reader; what cannot be recorded is said in `missing`."""
    missing, alpha = list[str](), plan.config.report.alpha
    found = {kind: _records(plan, ledger, store, kind, device, missing) for kind in kinds}
    readings = tuple(_reading(plan, kind, found[kind], least, alpha) for kind in kinds if found[kind])
    first = next((found[kind] for kind in kinds if found[kind]), {})
    return WhatChanged(
        sweep=plan.config.name,
        alpha=alpha,
        least=least,
        baseline=plan.config.report.baseline,
        sets=sets_of(plan),
        sentences=tuple(_sentences(readings[0])) if readings else (),
        readings=readings,
        features=(),
        shortcuts=(),
        similarities=tuple(_similarity(m, s, rs) for m, rs in first.items() for s in sets_of(plan)),
        specimens=(),
        missing=tuple(dict.fromkeys(missing)),
    )


def _records(plan: Plan, ledger: Ledger, store: Store, kind: Kind, device: torch.device, missing: list[str]) -> Records:
    records: Records = {}
    for spec in trials(plan, ledger):
        try:
            records.setdefault(spec.method, []).append(record_of_trial(plan, store, spec, kind, device))
        except UserError as error:
            missing.append(str(error))
    return {method: found for method, found in records.items() if found}


def _reading(plan: Plan, kind: Kind, records: Records, least: float, alpha: float) -> Reading:
    frozen = total(list(next(iter(records.values()))[0].changes.values()))
    live = testing.live(frozen.on0, sum(plan.facts.sizes[name] for name in sets_of(plan)))
    movements = tuple(_movement(method, found, live, least, alpha) for method, found in records.items())
    alive = int((frozen.on0 > 0).sum())
    return Reading(kind=kind, width=len(live), live=alive, tested=int(live.sum()), named=None, movements=movements)


def _movement(method: str, records: list[TrialRecord], live: np.ndarray, least: float, alpha: float) -> Movement:
    changes = [total(list(record.changes.values())) for record in records]
    effects = np.stack([effect(each.mass0, each.mass, live) for each in changes])
    dealt = [np.sum(list(record.dealt.values()), axis=0) for record in records]
    control = np.stack([effect(each.mass0, mass, live) for each, mass in zip(changes, dealt, strict=True)])
    tests = testing.assess(effects, control, live, least, alpha)
    seen = {name: _mean([getattr(record.seen, name) for record in records]) for name in records[0].seen._fields}
    parts = {name: float(np.mean([shares(each)[name] for each in changes])) for name in shares(changes[0])}
    return Movement(
        method=method,
        seeds=len(records),
        moved=seen["moved"] or 0.0,
        seen=seen["seen"],
        drift=seen["drift"],
        fvu0=seen["fvu0"],
        fvu=seen["fvu"],
        **parts,
        grew=tests.count("grew"),
        shrank=tests.count("shrank"),
        beyond=tests.beyond(),
    )


def _similarity(method: str, name: str, records: list[TrialRecord]) -> Similarity:
    biased, unbiased = (_mean([record.similarity[name][side] for record in records]) for side in (0, 1))
    return Similarity(method=method, against="frozen", dataset=name, site="embedding", biased=biased, unbiased=unbiased)


def _sentences(reading: Reading) -> list[str]:
    told = []
    for m in sorted(reading.movements, key=lambda m: 2.0 if m.seen is None else m.seen):
        if m.seen is not None:
            told.append(f"The {reading.kind} dictionary sees {100 * m.seen:.0f} % of what {m.method} changed.")
        if m.seeds > 1:
            told.append(f"Of {reading.tested} tested features {m.grew} grew and {m.shrank} shrank under {m.method}.")
    return told


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
