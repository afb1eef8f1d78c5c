"""Scores of stored end points on images that were given after the sweep: rows of their own, which no analysis reads.

<storage>/sweeps/<name>/evaluations/<trial>-<key>.parquet   one trial on one set of images, written once
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from saeft_ray.errors import Damaged
from saeft_ray.records.folder import read_parquet, sealed_parquet
from saeft_ray.storage.checksum import KEY as SEAL
from saeft_ray.storage.checksum import mark
from saeft_ray.storage.files import Files
from saeft_ray.storage.fingerprint import fingerprint

SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("trial", pa.string()),
        ("configuration", pa.string()),
        ("seed", pa.int64()),
        ("dataset", pa.string()),  # a set of the sweep, or where the images lay when they were scored
        ("images", pa.string()),  # what identifies them, wherever they lie
        ("held", pa.int64()),  # classes that they hold
        ("among", pa.int64()),  # classes that were there to choose from
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("examples", pa.string()),
        ("correct", pa.binary()),
        ("time", pa.string()),
    ]
)
_FOLDER = "evaluations"


class Evaluations:
    """Those of the sweep in the folder or URL `url`."""

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        self._files = Files(url, endpoint=endpoint)

    def of(self, trial: str, images: str) -> pa.Table | None:
        """The rows of a trial on `images`, as they were written first; None if there are none. Raises Damaged."""
        path = _path(trial, images)
        with suppress(FileNotFoundError, NotADirectoryError):
            return self._read(path, self._files.read_bytes(path))
        return None

    def keep(self, trial: str, images: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """Writes rows, unless somebody was faster; returns those that are there then."""
        content = sealed_parquet(pa.Table.from_pylist(list(rows), SCHEMA), {SEAL: mark()})
        with suppress(FileExistsError):
            self._files.write_once(_path(trial, images), content)
        return self.of(trial, images)

    def table(self) -> pa.Table:
        """All rows, without the bits, in the order of trials."""
        files = self._files.read_many(self._files.list(_FOLDER))
        found = [self._read(path, data) for path, data in sorted(files.items())]
        return pa.concat_tables([SCHEMA.empty_table(), *found]).drop_columns("correct")

    def _read(self, path: str, data: bytes) -> pa.Table:
        try:
            return read_parquet(data, f"{self._files.url}/{path}").replace_schema_metadata(None).cast(SCHEMA)
        except Damaged as error:
            raise Damaged(f"{error}; remove it and run `python -m saeft_ray.evaluate` again") from error


def _path(trial: str, images: str) -> str:
    return f"{_FOLDER}/{trial}-{fingerprint([trial, images], 10)}.parquet"
