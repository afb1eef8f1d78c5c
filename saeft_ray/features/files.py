"""What changed as files: features.json holds all of it and is read again; features.csv has a line per change."""

import io
import json
import re
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
from pydantic import TypeAdapter, ValidationError

from saeft_ray.errors import Damaged, UserError
from saeft_ray.features.content import WhatChanged
from saeft_ray.features.tables import changes_table, tables
from saeft_ray.records.read import read_file, write_file

JSON, PAGE = "features.json", "features.html"
_FORMAT = "saeft_ray.what_changed"
_CONTENT = TypeAdapter(WhatChanged)


def as_json(found: WhatChanged) -> str:
    """All of it, with the name of the format."""
    return json.dumps({"format": _FORMAT, **asdict(found)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(found: WhatChanged) -> str:
    """The table `changes`."""
    out = io.BytesIO()
    arrow_csv.write_csv(changes_table(found), out)
    return out.getvalue().decode()


def from_json(content: bytes, shown: str) -> WhatChanged:
    """What `as_json` wrote; `shown` names it in messages. Raises Damaged for anything else."""
    try:
        raw: Any = json.loads(content)
        if not isinstance(raw, dict) or raw.pop("format", None) != _FORMAT:
            raise Damaged(f"{shown}: was not written by saeft_ray.features; remove it and run that again")
        return _CONTENT.validate_python(raw)
    except (ValueError, ValidationError) as error:
        raise Damaged(
            f"{shown}: cannot be read as what changed ({type(error).__name__}); remove it and run "
            "`python -m saeft_ray.features` again"
        ) from error


def keep(found: WhatChanged, storage: str, endpoint: str | None = None) -> None:
    """Puts features.json into the folder or URL `storage` of its sweep, over an older one."""
    write_file(storage, JSON, as_json(found).encode(), endpoint)


def stored(storage: str, endpoint: str | None = None) -> WhatChanged | None:
    """What was kept for the sweep in the folder or URL `storage`; None where nothing was. Raises Damaged as
    `from_json`."""
    place = storage.rstrip("/")
    try:
        return from_json(read_file(place, JSON, endpoint), f"{place}/{JSON}")
    except (FileNotFoundError, NotADirectoryError):
        return None


def asked_tables(sql: str, storage: str, endpoint: str | None = None) -> dict[str, pa.Table]:
    """The tables `features` and `changes`, if `sql` names one of them. Raises UserError where nothing was found yet."""
    if not re.search(r"\b(features|changes)\b", sql, re.IGNORECASE):
        return {}
    found = stored(storage, endpoint)
    if found is None:
        raise UserError(
            f"{storage}: nothing was found of its features yet, so there are no tables `features` and `changes`; "
            f"run python -m saeft_ray.features {storage}"
        )
    return tables(found)
