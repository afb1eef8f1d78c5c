"""A sweep that exists, opened again from its folder; and the record by which it can be."""

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from saeft_ray.config.schema import SweepConfig
from saeft_ray.errors import UserError
from saeft_ray.methods.facts import Facts
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.versions import versions
from saeft_ray.storage.fingerprint import canonical, fingerprint
from saeft_ray.storage.store import Store


def reopen(storage: str, endpoint: str | None = None) -> tuple[Plan, Ledger, Store]:
    """The plan, ledger and store of the sweep in folder `storage`. Raises UserError if there is none."""
    root, _, name = storage.rstrip("/").rpartition("/sweeps/")
    store = Store(root or ".", endpoint=endpoint)
    ledger = Ledger(store, name)
    try:
        record = ledger.record()
    except FileNotFoundError as error:
        raise UserError(
            f"no sweep at {storage}: it has no sweep.json; give the folder that `python -m saeft_ray.sweep` printed"
        ) from error
    try:
        config = SweepConfig.model_validate_json(
            json.dumps({**record["config"], "storage": {"url": store.url, "endpoint": endpoint}})
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
    )
    return Plan(config, facts), ledger, store


def record_of(plan: Plan, commit: str | None) -> dict[str, Any]:
    """The record of a sweep that begins now, run by the code of `commit`."""
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
            "classes": facts.classes,
            "sizes": facts.sizes,
            "roles": dict(config.data.test_sets()),
            "image_size": facts.image_size,
            "width": facts.width,
        },
        "confirm_seeds": plan.seeds("confirm"),
    }
