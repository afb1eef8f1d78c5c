"""The files of one sweep: written once, checked on every reading, counted only from a driver that held the lease.

A driver that was taken for dead may still write (lease.py). So every driver notes at its start which files it found,
in `leases/<its lease>.found.json`; what an earlier driver writes after that is late, and late files do not count. Each
note names all files that count, so the last one is enough, and should it be damaged, the one before it.
"""

import io
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saeft_ray.errors import Damaged
from saeft_ray.storage.checksum import checked, from_json, seal, to_json
from saeft_ray.storage.files import Files
from saeft_ray.storage.fingerprint import fingerprint

_log = logging.getLogger(__name__)
RECORD = "sweep.json"
_PARTS = ("trials", "looks", "chosen")
_ASIDE = "set-aside-"


class SweepFolder:
    """The files below `folder` of `files`, read and written under `lease`; readers need none. Picklable."""

    def __init__(self, files: Files, folder: str, lease: int = 0):
        self._files, self._folder, self.lease = files, folder.strip("/"), lease
        self._found: set[str] = set()  # by drivers at their start
        self._newest: int | None = None  # the lease of the last driver that noted what it found
        self._judged: dict[str, bool] = {}  # files that count, or do not

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._files, self._folder, self.lease)

    @property
    def url(self) -> str:
        return f"{self._files.url}/{self._folder}".rstrip("/")

    def begin(self, note: Mapping[str, Any]) -> list[str]:
        """Sets aside what is damaged and records what is here, and `note`; returns what was set aside, in words.

        Raises Damaged if the sweep's record is: everything else can be made again from it.
        """
        raw, told = self._read_all(self._here()), []
        for path, data in raw.items():
            try:
                checked(data, f"{self.url}/{path}")
            except Damaged as error:
                if path == RECORD:
                    raise Damaged(
                        f"{error}. Nothing can be resumed without it: put a sound copy there, or run the sweep under "
                        "another name"
                    ) from error
                told.append(f"{error}; it is set aside as {self._set_aside(path, data)} and made again")
        here = [path for path in raw if self._files.exists(self._full(path))] if told else list(raw)
        before = self._accepted()
        since = self._newest or 0
        counted = [path for path in here if path in before or checked(raw[path], path) >= since]
        self._files.write(
            self._full(f"leases/{self.lease:06d}.found.json"),
            to_json({**note, "files": sorted(counted)}, self.lease),
        )
        self._newest = None
        for line in told:
            _log.warning(line)
        return told

    def put(self, path: str, data: bytes) -> bool:
        """Writes a file once; False if one that counts is there already. A damaged or late one is set aside."""
        for _ in range(3):
            with suppress(FileExistsError):
                self._files.write_once(self._full(path), data)
                self._judged[path] = True
                return True
            try:
                self.get(path)
                return False
            except (Damaged, FileNotFoundError) as error:
                with suppress(FileNotFoundError):
                    name = self._set_aside(path, self._files.read_bytes(self._full(path)))
                    _log.warning("%s; it is set aside as %s", error, name)
        raise OSError(f"{self.url}/{path}: cannot be written; something else keeps writing it")

    def put_json(self, path: str, content: Mapping[str, Any]) -> bool:
        return self.put(path, to_json(content, self.lease))

    def replace(self, path: str, data: bytes) -> None:
        self._files.write(self._full(path), data)

    def set_aside(self, path: str) -> str:
        """Keeps a file under another name, which is returned, so that a new one can be put in its place."""
        return self._set_aside(path, self.get(path))

    def get(self, path: str) -> bytes:
        """Raises FileNotFoundError if there is no such file or it came late, Damaged if it is not what was written."""
        data = self._files.read_bytes(self._full(path))
        if not self._counts(path, data):
            raise FileNotFoundError(f"{self.url}/{path}: was written by a driver after another had taken over")
        return data

    def get_json(self, path: str) -> dict[str, Any]:
        """Returns the JSON in the file. Raises what `get` raises."""
        return from_json(self.get(path), f"{self.url}/{path}")

    def get_many(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The files of `paths` that are there and count. Raises Damaged, which names every damaged one."""
        found, faults = {}, []
        for path, data in self._read_all(paths).items():
            try:
                if self._counts(path, data):
                    found[path] = data
            except Damaged as error:
                faults.append(str(error))
        if faults:
            raise Damaged(
                "\n".join(faults) + "\nRun the sweep again: it sets damaged files aside and makes them anew, with the "
                "same seeds"
            )
        return found

    def paths(self, part: str) -> list[str]:
        """The files below `part` that count, sorted; damaged ones too, where whoever reads them must hear of it."""
        prefix = len(self._full(""))
        found = [path[prefix:] for path in self._files.list(self._full(part))]
        found = [path for path in found if not path.rpartition("/")[2].startswith(_ASIDE)]
        accepted = self._accepted()
        if self._newest:
            unknown = [path for path in found if path not in accepted and path not in self._judged]
            raw = self._read_all(unknown)
            for path in unknown:
                with suppress(Damaged):
                    self._judged[path] = path in raw and self._counts(path, raw[path])
            found = [path for path in found if path in accepted or self._judged.get(path, True)]
        return found

    def _here(self) -> list[str]:
        """Every file that a seal protects."""
        single = [RECORD, "chosen.json", "registration.json"]
        prefix = len(self._full(""))
        many = [path[prefix:] for part in _PARTS for path in self._files.list(self._full(part))]
        return single + [path for path in many if not path.rpartition("/")[2].startswith(_ASIDE)]

    def _counts(self, path: str, data: bytes) -> bool:
        lease = checked(data, f"{self.url}/{path}")
        return path in self._accepted() or lease >= (self._newest or 0)

    def _accepted(self) -> set[str]:
        """What the last driver found at its start."""
        if self._newest is None:
            self._newest = 0
            names = self._files.list(self._full("leases"))
            for name in sorted((name for name in names if name.endswith(".found.json")), reverse=True):
                try:
                    note = from_json(self._files.read_bytes(name), f"{self._files.url}/{name}")
                except Damaged as error:
                    _log.warning("%s; files that an earlier driver wrote late may count", error)
                    continue
                self._newest = max(self._newest, int(name.rpartition("/")[2].partition(".")[0]))
                self._found.update(note["files"])
                break
        return self._found

    def _read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        full = {self._full(path): path for path in paths}
        return {full[name]: data for name, data in self._files.read_many(full).items()}

    def _set_aside(self, path: str, data: bytes) -> str:
        """Keeps the bytes under another name; returns that name."""
        folder, _, name = path.rpartition("/")
        aside = f"{folder}/{_ASIDE}{fingerprint(data.hex(), 8)}-{name}".lstrip("/")
        with suppress(FileExistsError):
            self._files.write_once(self._full(aside), data)
        self._files.delete(self._full(path))
        self._judged.pop(path, None)
        return aside

    def _full(self, path: str) -> str:
        return f"{self._folder}/{path}" if self._folder else path


def sealed_parquet(rows: pa.Table, about: Mapping[str, str]) -> bytes:
    """A Parquet file with `about` as its metadata, among it the mark of a seal (`checksum.mark`)."""
    out = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata(about), out, compression="zstd")
    return seal(out.getvalue())


def read_parquet(data: bytes, shown: str) -> pa.Table:
    """Raises Damaged."""
    checked(data, shown)
    try:
        return pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(f"{shown}: is not a Parquet file ({str(error).splitlines()[0]})") from error
