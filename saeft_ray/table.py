"""A sweep's folder, read: the rows of all its trials and the record of what was run."""

import contextlib
import io
import json
import os
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from saeft_ray.rows import SCHEMA


def read_rows(url: str) -> pa.Table:
    """The rows of every `<url>/trials/*/rows.parquet`, in the order of the trials' names."""
    fs, root = _open(url)
    # The writer may be this very process, through another client: no listing from before may answer.
    fs.invalidate_cache()
    paths = sorted(fs.glob(f"{root}/trials/*/rows.parquet"))
    # One call for all files: object stores answer many at a time.
    files = fs.cat(paths) if paths else {}
    tables = [pq.read_table(io.BytesIO(files[path])).select(SCHEMA.names).cast(SCHEMA) for path in paths]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def read_record(url: str) -> dict[str, Any]:
    """The record `<url>/sweep.json`, with the registration and the looks of its confirm phase, once there are, and the
    number of every suggestion of its search by trial (`suggestions`).

    Raises ValueError if `url` is no sweep's folder.
    """
    fs, root = _open(url)
    try:
        text = fs.cat_file(f"{root}/sweep.json")
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"no sweep at {url}: it has no sweep.json; give the folder that `python -m saeft_ray.sweep` printed"
        ) from None
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError(f"{url}/sweep.json holds no object")
    with contextlib.suppress(FileNotFoundError):
        record["registration"] = json.loads(fs.cat_file(f"{root}/registration.json"))
    fs.invalidate_cache()
    looks = [look for _, look in _objects(fs, f"{root}/looks/*.json")]
    specs = _objects(fs, f"{root}/trials/search-*/spec.json")
    record["suggestions"] = {path.split("/")[-2]: spec["number"] for path, spec in specs}
    if "registration" in record:
        record["looks"] = sorted(looks, key=lambda look: (look["family"], look["n"]))
    return record


def write_file(url: str, name: str, content: bytes) -> None:
    """Put `content` at `<url>/<name>`, over whatever was there."""
    fs, root = _open(url)
    path = f"{root}/{name}"
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(path, content)


def _objects(fs: Any, pattern: str) -> list[tuple[str, Any]]:
    """Path and content of every JSON file that matches, by path."""
    paths = sorted(fs.glob(pattern))
    files = fs.cat(paths) if paths else {}
    return [(path, json.loads(files[path])) for path in paths]


def _open(url: str) -> tuple[Any, str]:
    options: dict[str, Any] = {}
    if url.startswith("s3://") and (endpoint := os.environ.get("AWS_ENDPOINT_URL")):
        options["endpoint_url"] = endpoint
    fs, root = fsspec.core.url_to_fs(url.rstrip("/") or url, **options)
    return fs, root
