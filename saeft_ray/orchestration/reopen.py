"""A sweep that exists, opened again from its folder; and the record by which it can be."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from saeft_ray.config import sweep_file
from saeft_ray.config.registry import Origin, Registry
from saeft_ray.config.schema import DATASETS, METHODS, SweepConfig
from saeft_ray.errors import UserError
from saeft_ray.methods import Method
from saeft_ray.methods.facts import Facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import no_sweep
from saeft_ray.records.versions import versions
from saeft_ray.settings import Preprocessing
from saeft_ray.storage.fingerprint import canonical, fingerprint
from saeft_ray.storage.location import Location
from saeft_ray.storage.store import Store


def reopen(storage: str, endpoint: str | None = None) -> tuple[Plan, Ledger, Store]:
    """The plan, ledger and store of the sweep in folder `storage`. Raises UserError if there is none."""
    ledger, store, record = find_sweep(storage, endpoint)
    if absent := _absent(record):
        raise UserError(f"{storage}: " + "; ".join(absent))
    try:
        config = SweepConfig.model_validate_json(
            json.dumps(
                {
                    **record["config"],
                    "methods": _in_order(record),
                    **_asked_of(record),
                    "storage": {"url": store.url, "endpoint": endpoint},
                }
            )
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(
            f"{storage}: its settings do not fit this version of saeft_ray ({'.'.join(map(str, first['loc']))}: "
            f"{first['msg']}); use version {record.get('versions', {}).get('saeft_ray', 'that ran it')}"
        ) from error
    data = record["data"]
    facts = Facts(
        model=record["model"],
        image_size=data["image_size"],
        width=data["width"],
        data=data["fingerprint"],
        sizes=data["sizes"],
        classes=data["classes"],
        imported=record["imported"],
        train=data["train"],
        search=data.get("search", ""),
        preprocessing=_preprocessing(record),
    )
    return Plan(config, facts), ledger, store


def find_sweep(storage: str, endpoint: str | None = None) -> tuple[Ledger, Store, dict[str, Any]]:
    """The ledger, store and record of the sweep in folder `storage`, whose code need not be here. Raises UserError if
    there is none."""
    root, between, name = Location(storage, endpoint).url.rpartition("/sweeps/")
    store = Store(root or storage, endpoint=endpoint)
    ledger = Ledger(store, name)
    try:
        if not between or not name or "/" in name:
            raise FileNotFoundError(storage)
        return ledger, store, ledger.record()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(no_sweep(storage, endpoint)) from error


def record_of(plan: Plan, commit: str | None, look: bool = True) -> dict[str, Any]:
    """The record of a sweep that begins now, run by the code of `commit`; with `look`, what its images hold is read."""
    config, facts = plan.config, plan.facts
    return {
        "name": config.name,
        "identity": fingerprint(config.determining_settings()),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "versions": versions(),
        "config": json.loads(canonical(config.determining_settings())),
        "model": facts.model,
        "imported": facts.imported,
        "data": {
            "fingerprint": facts.data,
            "train": facts.train,
            "search": facts.search,
            "content": config.data.contents() if look else {},
            "classes": facts.classes,
            "sizes": facts.sizes,
            "roles": dict(config.data.test_sets()),
            "image_size": facts.image_size,
            "width": facts.width,
            "tests": config.data.test_fingerprints(),
            "about": config.data.about(),
            "templates": list(config.data.prompts()),
            "class_names": list(config.data.class_names()),
        },
        "preprocessing": facts.preprocessing._asdict(),
        "confirm_seeds": plan.seeds("confirm"),
        "methods": {label: _facts_of(method) for label, method in config.methods.items()}
        | {arm: _facts_of(config.methods[label]) for arm, label in plan.arms().items()},
        **({"arms": plan.arms()} if plan.arms() else {}),
        "dataset": _origin(DATASETS, config.data)._asdict(),
        **({"features": config.features.model_dump(mode="json")} if config.features.on else {}),
    }


def _preprocessing(record: Mapping[str, Any]) -> Preprocessing:
    """What was done to pictures; to those of sweeps that did not note it, what was done to all then."""
    return TypeAdapter(Preprocessing).validate_python(record.get("preprocessing", {}))


def _in_order(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the methods as the sweep file has them; settings by themselves are kept in order of name."""
    given = record["config"]["methods"]
    return {label: given[label] for label in dict.fromkeys([*record.get("methods", {}), *given]) if label in given}


def _asked_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The section `features` as the sweep began with it; none where it was off, or not known yet."""
    return {"features": record["features"]} if "features" in record else {}


def _facts_of(method: Method) -> dict[str, Any]:
    """What a method declares of itself, for whoever reads the record without its code."""
    kind = str(getattr(method, "type", ""))
    return {
        "dictionary": method.dictionary_kind,
        "derived_from": method.base,
        "family": method.family,
        "penalty": method.control_of or kind,
        "trains": method.trains,
        "about": method.about,
        **_origin(METHODS, method)._asdict(),
    }


def _origin(registry: Registry[Any], value: object) -> Origin:
    return registry.origins[str(getattr(value, "type", ""))]


def load(path: str) -> SweepConfig:
    """The sweep file at `path`. Raises UserError for its mistakes; where a type is missing that a sweep of this name
    was begun with, it says which distribution brought it."""
    try:
        return sweep_file.load(path)
    except UserError as error:
        if absent := _known_absent(path):
            raise UserError(f"{error}\n" + "\n".join(absent)) from error
        raise


def _known_absent(path: str) -> list[str]:
    with suppress(Exception):  # the file has mistakes, and the storage may be anything
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        storage = raw.get("storage", "./runs")
        place = {"url": storage} if isinstance(storage, str) else storage
        store = Store(place["url"], endpoint=place.get("endpoint"))
        return _absent(Ledger(store, str(raw["name"])).record())
    return []


def _absent(record: Mapping[str, Any]) -> list[str]:
    """The types of `record` that are not installed, each with who brought it, in words."""
    config = record["config"]
    wanted: list[tuple[str, str, Registry[Any], Mapping[str, Any]]] = [
        (f"methods.{label}", config["methods"][label]["type"], METHODS, facts)
        for label, facts in record.get("methods", {}).items()
        if label in config["methods"]  # what a further rule chose is of one of these
    ]
    wanted.append(("data", config["data"]["type"], DATASETS, record.get("dataset", {})))
    return [
        f"{place}: type {kind!r} came from {facts.get('distribution')} {facts.get('version')}, entry point "
        f"{facts.get('entry_point')}, which is not installed here or cannot be imported; install it and run this again"
        for place, kind, known, facts in wanted
        if kind not in known and facts
    ]
