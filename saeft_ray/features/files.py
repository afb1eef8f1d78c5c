"""What changed as files: features.json holds what is shown and is read again; features.csv has a line per change;
firings.parquet has the table of features by set and class."""

import io
import json
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from pydantic import TypeAdapter, ValidationError

from saeft_ray.errors import Damaged, UserError
from saeft_ray.features.content import WhatChanged
from saeft_ray.features.tables import FIRINGS, changes_table, firings_table, tables
from saeft_ray.records.query import asks
from saeft_ray.records.read import read_file, write_file

JSON, PAGE, FIRED = "features.json", "features.html", "firings.parquet"
_FORMAT = "saeft_ray.what_changed"
_CONTENT = TypeAdapter(WhatChanged)


def as_json(found: WhatChanged) -> str:
    """All but its table `firings`, with the name of the format."""
    shown = asdict(replace(found, firings=None))
    del shown["firings"]
    return json.dumps({"format": _FORMAT, **shown}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


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
    """Puts features.json and firings.parquet into the folder or URL `storage` of its sweep, over older ones."""
    out = io.BytesIO()
    parquet.write_table(firings_table(found), out, compression="zstd")
    write_file(storage, FIRED, out.getvalue(), endpoint)
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
    """Those of the tables `features`, `changes` and `firings` that `sql` names. Raises UserError where one of them
    is not there, Damaged for files that were not written by `keep`."""
    asked = [name for name in ("features", "changes", "firings") if asks(sql, name)]
    if not asked:
        return {}
    found = stored(storage, endpoint)
    held = {} if found is None else tables(found)
    if "firings" in asked:
        held |= _stored_firings(storage.rstrip("/"), endpoint)
    if absent := [f"`{name}`" for name in asked if name not in held]:
        why = "nothing was found of its features yet" if found is None else "what was found has no such file"
        no = f"there is no table {absent[0]}" if len(absent) == 1 else f"there are no tables {' and '.join(absent)}"
        raise UserError(f"{storage}: {no}: {why}; run python -m saeft_ray.features {storage}")
    return {name: held[name] for name in asked}


def _stored_firings(place: str, endpoint: str | None) -> dict[str, pa.Table]:
    try:
        found = parquet.read_table(pa.BufferReader(read_file(place, FIRED, endpoint)))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (pa.ArrowException, OSError) as error:
        raise Damaged(
            f"{place}/{FIRED}: cannot be read ({type(error).__name__}); remove it and run "
            "`python -m saeft_ray.features` again"
        ) from error
    return {"firings": found.cast(FIRINGS)} if found.schema.names == FIRINGS.names else {}
