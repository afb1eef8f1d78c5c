"""The one schema of the results table: a row is trial × dataset × metric.

Each finished trial writes its rows once, as one Parquet file; the table is the union of those files.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeft_ray.errors import UserError

Phase = Literal["search", "rerank", "confirm", "curves"]
PHASES: tuple[Phase, ...] = ("search", "rerank", "confirm", "curves")
"""`curves` runs what confirm chose at other strengths, with seeds of confirm; where the sweep file asks for it."""
TESTED = ("confirm", "curves")
"""The phases that see test sets."""
KL, AGREEMENT, NLL = "kl_to_frozen", "agreement", "nll"
"""Metrics of the selection split: mean KL(frozen ‖ tuned) of the answers in nats, the share of images on which the two
answer alike, and the mean negative log-likelihood of the labels."""
Status = Literal["ok", "failed", "stopped", "error"]
"""`failed`: the method diverged, which is a result. `stopped`: early, by the search; or on purpose, by somebody: then
without a value, and `error` says by whom. `error`: it could not be run, for reasons that are not the method's; the next
start tries it again."""

SCHEMA = pa.schema(
    [
        pa.field("sweep", pa.string(), nullable=False),
        pa.field("phase", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("configuration", pa.string(), nullable=False),
        pa.field("settings", pa.string(), nullable=False),
        pa.field("seed", pa.int64()),
        pa.field("trial", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("n", pa.int64()),
        pa.field("examples", pa.string()),
        pa.field("correct", pa.binary()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of one trial.

    `settings` is canonical JSON of the method's settings; `configuration` is its hash. `seed` is None for a method
    without training. `role` is that of the dataset (`selection`, `id`, `ood`, `diagnostic`), or `train` for numbers
    about training itself. Accuracies are fractions in [0, 1]. `correct` packs one bit an example (`pack`), `examples`
    is the hash of the example order, `n` their number. A trial that failed or was stopped on purpose has `value` None
    and says why in `error`.
    """

    sweep: str
    phase: Phase
    method: str
    configuration: str
    settings: str
    seed: int | None
    trial: str
    dataset: str
    role: str
    metric: str
    value: float | None
    status: Status = "ok"
    error: str | None = None
    n: int | None = None
    examples: str | None = None
    correct: bytes | None = None


def table(rows: Iterable[Row]) -> pa.Table:
    """`rows` as an Arrow table of `SCHEMA`, in the given order."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)


def pack(correct: NDArray[np.bool_]) -> bytes:
    """One bit per example, most significant bit first."""
    return np.packbits(correct).tobytes()


def unpack(packed: bytes, n: int) -> NDArray[np.bool_]:
    """The `n` booleans that `pack` was given. Raises UserError if `packed` has another length."""
    if len(packed) != (n + 7) // 8:
        raise UserError(f"{len(packed)} bytes hold no {n} bits; {(n + 7) // 8} bytes would")
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=n).astype(bool)
