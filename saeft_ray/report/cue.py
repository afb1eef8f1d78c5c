"""What a sweep noted of a cue, and how every method answers the selection images that go against it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeft_ray.records.cue import KEY, Cue
from saeft_ray.records.rows import unpack
from saeft_ray.report.content import AgainstCue, CueFound


def cue_found(rows: pa.Table, record: Mapping[str, Any], methods: tuple[str, ...]) -> CueFound | None:
    """The cue of the sweep, with its `methods` in that order; None where nothing was noted."""
    if KEY not in record:
        return None
    cue = Cue(**record[KEY])
    minority = cue.minority
    return CueFound(
        v=cue.v,
        words=str(cue),
        likely=cue.likely,
        against=float(minority.mean()),
        methods=tuple(_answers(rows, cue, minority, methods)) if 0 < minority.sum() < cue.n else (),
    )


def _answers(rows: pa.Table, cue: Cue, minority: NDArray[np.bool_], methods: tuple[str, ...]) -> Iterator[AgainstCue]:
    """A line for every method with confirm trials that were scored on these very selection images."""
    wanted = {"phase": "confirm", "role": "selection", "status": "ok", "examples": cue.examples}
    for column, value in wanted.items():
        rows = rows.filter(pc.fill_null(pc.equal(rows[column], value), False))
    scored = rows.filter(pc.is_valid(rows["correct"])).sort_by([("seed", "ascending")]).to_pylist()
    for method in methods:
        mine = [row for row in scored if row["method"] == method and row["n"] == cue.n]
        if not mine:
            continue
        right = [unpack(row["correct"], cue.n) for row in mine]
        against, others = ([float(each[which].mean()) for each in right] for which in (minority, ~minority))
        yield AgainstCue(
            method=method,
            seeds=len([row for row in mine if row["seed"] is not None]),
            against=math.fsum(against) / len(mine),
            others=math.fsum(others) / len(mine),
        )
