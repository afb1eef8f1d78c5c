"""Embeddings and records of a sweep's trials, as artifacts of its store: made once, resumed, verified.

Shapes: N images of a set, d embedding width, D dictionary width, C classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from saeft_ray.draws import seed_of
from saeft_ray.features.activity import values_at
from saeft_ray.features.change import Change, Masses, Pairs, born_and_died, change, mass, mass_by_class
from saeft_ray.features.cka import Cka, linear
from saeft_ray.features.codes import SparseCodes, encode, stacked
from saeft_ray.features.dealt import dealt
from saeft_ray.features.examples import examples_of
from saeft_ray.features.readers import Kind, Reader, dictionary_of, reader
from saeft_ray.features.retention import retention
from saeft_ray.features.seen import Seen, seen
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.tuned import (
    embeddings,
    frozen_classifier,
    identity_of_embeddings,
    kept_embeddings,
    split_of,
    tuned_classifier,
)
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.sae import Dictionary
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.store import Store

VERSIONS = {"codes": 1, "record": 3}
DRAWS = 3  # of the control
Array = NDArray[np.float32]


@dataclass(frozen=True)
class TrialRecord:
    """The record of one trial through one reader. By set: the change, the dealt movement's mass (D,), the pairs of
    image and feature that are active newly, with their strength, and no longer, and newly after one dealt movement, the
    tuned mass by class (pairs and these of the trained reader alone), and CKA of the embedding."""

    trial: str
    method: str
    number: int
    kind: Kind
    seen: Seen  # of all sets together
    gain: NDArray[np.float64]  # (D,) NaN where it is not defined
    changes: dict[str, Change]
    dealt: dict[str, NDArray[np.float64]]
    born: dict[str, Pairs]
    died: dict[str, Pairs]
    strength: dict[str, Array]  # of the pairs `born`: the tuned code's magnitude
    dealt_born: dict[str, Pairs]
    by_class: dict[str, Masses]
    similarity: dict[str, Cka]


class _Parts(NamedTuple):
    """Embeddings of one set as a dictionary reads them."""

    frozen: Array
    tuned: Array


def sets_of(plan: Plan) -> tuple[str, ...]:
    """The sets that a record is made on."""
    return plan.config.features.of(plan.config.data.test_sets())


def trials(plan: Plan, ledger: Ledger) -> list[TrialSpec]:
    """The finished trials of the confirm phase that have weights of their own, in the order of their seeds."""
    finished = {trial for trial, value in ledger.results("confirm").items() if value is not None}
    return [spec for spec in ledger.asked("confirm") if spec.id in finished and spec.trained is not None]


def embeddings_of(plan: Plan, store: Store, spec: TrialSpec | None, name: str, device: torch.device) -> Array:
    """(N, d) embeddings of set `name` by the model of `spec`, or by the frozen one if that is None."""

    def made() -> Array:
        model = frozen_classifier(plan, store) if spec is None else tuned_classifier(plan, spec, store)
        return embeddings(model, split_of(plan, name), device)

    return kept_embeddings(plan, store, spec, name, made)


def codes_of(
    dictionary: Dictionary, plan: Plan, store: Store, spec: TrialSpec | None, device: torch.device
) -> SparseCodes:
    """Codes of the embeddings of all sets, one below the other, by the model of `spec` or the frozen one."""
    return stacked([encode(dictionary, embeddings_of(plan, store, spec, name, device)) for name in sets_of(plan)])


def frozen_codes(plan: Plan, store: Store, read: Reader, name: str, device: torch.device) -> SparseCodes:
    """Codes of the frozen embeddings of set `name`, made once for all trials."""

    def build(folder: Path) -> None:
        dictionary = dictionary_of(read, plan, store, device)
        codes = encode(dictionary, embeddings_of(plan, store, None, name, device))
        save_file({"index": codes.index, "value": codes.value}, folder / "codes.safetensors")
        (folder / "width.json").write_text(json.dumps(codes.width))

    identity = {"of": identity_of_embeddings(plan, None, name), "reader": read.key, "version": VERSIONS["codes"]}
    folder = store.ensure("codes", fingerprint(identity, 24), build, identity)
    width: int = json.loads((folder / "width.json").read_text())
    return SparseCodes(**load_file(folder / "codes.safetensors"), width=width)


def record_of_trial(plan: Plan, store: Store, spec: TrialSpec, kind: Kind, device: torch.device) -> TrialRecord:
    """The record of `spec` read through the dictionary of this `kind`; made and kept if the store has none.

    All arguments can be pickled, so that trials may be recorded in separate processes. Raises UserError if its weights
    or the images are gone.
    """
    read = reader(plan, kind)
    identity = {
        "trial": [identity_of_embeddings(plan, spec, name) for name in sets_of(plan)],
        "reader": read.key,
        "draws": DRAWS,
        "version": VERSIONS["record"],
    }

    def build(folder: Path) -> None:
        _write(_recorded(plan, store, spec, read, device), folder)

    folder = store.ensure("record", fingerprint(identity, 24), build, identity)
    return _read(folder, spec, kind, sets_of(plan))


def _recorded(plan: Plan, store: Store, spec: TrialSpec, read: Reader, device: torch.device) -> TrialRecord:
    dictionary, names = dictionary_of(read, plan, store, device), sets_of(plan)
    seed = seed_of("record", plan.config.seed, spec.number)
    raw = {name: [embeddings_of(plan, store, who, name, device) for who in (None, spec)] for name in names}
    codes = {
        name: (frozen_codes(plan, store, read, name, device), encode(dictionary, x)) for name, (_, x) in raw.items()
    }
    changes, masses, born, died, strength, dealt_born, by_class = {}, {}, {}, {}, {}, {}, {}
    for name, (x0, x) in raw.items():
        s0, s = codes[name]
        changes[name] = change(s0, s)
        controls = [encode(dictionary, dealt(x0, x, seed, draw)) for draw in range(DRAWS)]
        masses[name] = np.mean([mass(control) for control in controls], axis=0)
        if read.kind == "trained":
            born[name], died[name] = born_and_died(s0, s)
            strength[name] = np.abs(values_at(s.matrix(), *born[name])).astype(np.float32)
            dealt_born[name], _ = born_and_died(s0, controls[0])
            by_class[name] = mass_by_class(s, examples_of(plan, store, name).labels)
    as_read = _Parts(*(_as_read(dictionary, np.concatenate([raw[name][side] for name in names])) for side in (0, 1)))
    s0, s = (stacked([codes[name][side] for name in names]) for side in (0, 1))
    return TrialRecord(
        trial=spec.id,
        method=spec.method,
        number=spec.number,
        kind=read.kind,
        seen=seen(dictionary, *as_read, s0, s),
        gain=retention(s0, as_read.tuned - as_read.frozen, dictionary.encoder.cpu().numpy()).gain,
        changes=changes,
        dealt=masses,
        born=born,
        died=died,
        strength=strength,
        dealt_born=dealt_born,
        by_class=by_class,
        similarity={name: linear(raw[name][0], raw[name][1]) for name in names},
    )


@torch.no_grad()
def _as_read(dictionary: Dictionary, x: Array) -> Array:
    given: Array = dictionary.read(torch.from_numpy(x).to(dictionary.bias.device)).cpu().numpy()
    return given


def _write(record: TrialRecord, folder: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {"gain": record.gain}
    for name in record.changes:
        arrays |= {f"{name}/{field}": x for field, x in record.changes[name]._asdict().items()}
        arrays[f"{name}/dealt"] = record.dealt[name]
        for which, pairs in (("born", record.born), ("died", record.died), ("dealt", record.dealt_born)):
            if name in pairs:
                arrays[f"{name}/{which} pairs"] = np.stack(pairs[name])
        if name in record.strength:
            arrays[f"{name}/strength"] = record.strength[name]
            arrays |= {f"{name}/by class/{field}": x for field, x in record.by_class[name]._asdict().items()}
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, folder / "record.safetensors")
    numbers = {"seen": record.seen, "similarity": record.similarity}
    (folder / "numbers.json").write_text(json.dumps(numbers))


def _read(folder: Path, spec: TrialSpec, kind: Kind, names: tuple[str, ...]) -> TrialRecord:
    arrays, numbers = load_file(folder / "record.safetensors"), json.loads((folder / "numbers.json").read_text())

    def pairs(which: str) -> dict[str, Pairs]:
        keys = {name: f"{name}/{which} pairs" for name in names}
        return {name: Pairs(*arrays[key]) for name, key in keys.items() if key in arrays}

    return TrialRecord(
        trial=spec.id,
        method=spec.method,
        number=spec.number,
        kind=kind,
        seen=Seen(*numbers["seen"]),
        gain=arrays["gain"],
        changes={name: Change(*(arrays[f"{name}/{field}"] for field in Change._fields)) for name in names},
        dealt={name: arrays[f"{name}/dealt"] for name in names},
        born=pairs("born"),
        died=pairs("died"),
        strength={name: arrays[f"{name}/strength"] for name in names if f"{name}/strength" in arrays},
        dealt_born=pairs("dealt"),
        by_class={
            name: Masses(*(arrays[f"{name}/by class/{field}"] for field in Masses._fields))
            for name in names
            if f"{name}/by class/mass" in arrays
        },
        similarity={name: Cka(*found) for name, found in numbers["similarity"].items()},
    )
