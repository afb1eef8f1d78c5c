"""A sweep's folder, read: the rows of all its trials and the record of what was run."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import pyarrow as pa

from saeft_ray.errors import UserError
from saeft_ray.records import cue
from saeft_ray.records.folder import RECORD, SweepFolder, read_parquet
from saeft_ray.records.rows import SCHEMA
from saeft_ray.storage.checksum import from_json
from saeft_ray.storage.files import Files
from saeft_ray.storage.location import Location, environment_endpoint

_LISTED = 10
ROWS = "rows.parquet"
MORE = "more-"
"""What the files with rows of test sets begin with that were added after the trial had ended."""
ERROR = "error.parquet"
"""The rows of a trial that could not be run; they stand until it has rows of its own."""


def read_rows(url: str, endpoint: str | None = None) -> pa.Table:
    """The rows of every trial below `<url>/trials`, in the order of their names. Raises Damaged, which names each file
    whose bytes are not those that were written."""
    return rows_of(read_trials(url, endpoint))


def rows_of(files: Mapping[str, pa.Table]) -> pa.Table:
    """The same of what `read_trials` gave."""
    tables = [table.select(SCHEMA.names).cast(SCHEMA) for table in files.values()]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def read_trials(url: str, endpoint: str | None = None) -> dict[str, pa.Table]:
    """The file of every trial as it was written, by its path, with the rows of test sets that were added later. Raises
    Damaged as `read_rows`."""
    folder = SweepFolder(_files(url, endpoint or environment_endpoint()), "")
    paths = folder.paths("trials")
    ended = {path.rpartition("/")[0] for path in paths if path.endswith(f"/{ROWS}")}
    wanted = [f"{trial}/{ROWS}" for trial in ended]
    wanted += [path for path in paths if path.endswith(f"/{ERROR}") and path.rpartition("/")[0] not in ended]
    more = [path for path in paths if path.rpartition("/")[2].startswith(MORE)]
    files = folder.get_many(sorted(wanted + more))
    tables = {path: read_parquet(data, f"{url}/{path}") for path, data in files.items()}
    for path in sorted(tables.keys() & set(more)):
        first, later = f"{path.rpartition('/')[0]}/{ROWS}", tables.pop(path)
        if first in tables:
            whole = pa.concat_tables([tables[first], later.cast(tables[first].schema)])
            tables[first] = whole.replace_schema_metadata(tables[first].schema.metadata)
    return tables


def read_record(url: str, endpoint: str | None = None) -> dict[str, Any]:
    """The record `<url>/sweep.json`, with the registration and the looks of its confirm phase and what was found of a
    cue, once there are, and the number of every suggestion of its search by trial (`suggestions`).

    Raises UserError if `url` is not a sweep's folder, Damaged as `read_rows`.
    """
    folder = SweepFolder(_files(url, endpoint or environment_endpoint()), "")
    try:
        record = folder.get_json(RECORD)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(no_sweep(url, endpoint)) from None
    trials = [
        path for path in folder.paths("trials") if path.startswith("trials/search-") and path.endswith("/spec.json")
    ]
    record["suggestions"] = {
        path.split("/")[1]: from_json(data, f"{url}/{path}")["number"] for path, data in folder.get_many(trials).items()
    }
    with suppress(FileNotFoundError):
        record["registration"] = folder.get_json("registration.json")
        looks = [folder.get_json(path) for path in folder.paths("looks")]
        record["looks"] = sorted(looks, key=lambda look: (look["family"], look["n"]))
    with suppress(FileNotFoundError):
        record[cue.KEY] = folder.get_json(cue.FILE)
    return record


def no_sweep(url: str, endpoint: str | None = None) -> str:
    """Why `url` cannot be taken as the folder of a sweep, and what to give instead."""
    place = Location(url, endpoint)
    if (place / RECORD).exists():
        return f"{url}: holds a sweep.json, but its models are found from STORAGE/sweeps/NAME alone; move it there"
    with suppress(FileNotFoundError, NotADirectoryError):
        if names := sorted(name for name, entry in (place / "sweeps").entries().items() if entry.is_folder):
            listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
            one = f"{place.url}/sweeps/{names[0]}"
            return f"no sweep at {url}: it is a storage with the sweeps {listed}; give one: {one}"
    return (
        f"no sweep at {url}: it has no sweep.json; give the folder that `python -m saeft_ray.sweep` printed, which "
        "ends in /sweeps/NAME"
    )


def read_file(url: str, name: str, endpoint: str | None = None) -> bytes:
    """The content of `<url>/<name>`. Raises FileNotFoundError."""
    return _files(url, endpoint or environment_endpoint()).read_bytes(name)


def file_exists(url: str, name: str, endpoint: str | None = None) -> bool:
    """Whether `<url>/<name>` is a file."""
    return _files(url, endpoint or environment_endpoint()).exists(name)


def write_file(url: str, name: str, content: bytes, endpoint: str | None = None) -> None:
    """Put `content` at `<url>/<name>`, over whatever was there."""
    _files(url, endpoint or environment_endpoint()).write(name, content)


@lru_cache(maxsize=4)
def _files(url: str, endpoint: str | None) -> Files:
    """Connected once for all the files of a report."""
    return Files(url, endpoint=endpoint)
