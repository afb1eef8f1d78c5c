"""Confirm rows → checked scores: which method, on which seed, has which number on which test set."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeft_ray.config.choose import is_dealt
from saeft_ray.errors import UserError
from saeft_ray.records.amendments import added_sets
from saeft_ray.records.rows import unpack
from saeft_ray.report.numbers import in_list

METRIC = "accuracy"
Seed = int | None
_TESTED = ("id", "ood", "diagnostic")


@dataclass(frozen=True, kw_only=True)
class Score:
    """The accuracy (a fraction) of one trial on one test set of `n` examples, and which of them were right."""

    value: float
    n: int | None
    examples: str | None
    packed: bytes | None

    def correct(self) -> NDArray[np.bool_] | None:
        """One boolean per example, (n,); None where the rows carry no bits."""
        return None if self.packed is None or self.n is None else unpack(self.packed, self.n)


@dataclass(kw_only=True)
class Trials:
    """Everything that one method did in `confirm`. `scores` holds finished numbers only, by seed and test set; `failed`
    and `stopped` (on purpose, by somebody) say of other seeds why they have none.

    `elsewhere`: the runs were made and their seeds chosen where nobody promised that methods share them.
    """

    method: str
    settings: str = "{}"
    configuration: str = ""
    seeds: set[Seed] = field(default_factory=set)
    failed: dict[Seed, str] = field(default_factory=dict)
    stopped: dict[Seed, str] = field(default_factory=dict)
    scores: dict[Seed, dict[str, Score]] = field(default_factory=dict)
    elsewhere: bool = False
    configurations: dict[Seed, str] = field(default_factory=dict)
    """By seed; more than one where the seeds were dealt over several."""
    order: tuple[Seed, ...] = ()
    """The seeds in the order in which they were dealt."""
    searches: int = 0
    """Repeats of the method's search that took turns over `order`, whatever each chose; 0 for one search."""

    @property
    def choices(self) -> int:
        """How many choices share the seeds: searches, or configurations that are tied."""
        return self.searches or len(self._dealt)

    def choice(self, seed: Seed) -> int:
        """Which of the choices the method used with `seed`; 0 is the chosen one."""
        if self.searches:
            return self.order.index(seed) % self.searches if seed in self.order else 0
        return self._dealt.index(self.configurations[seed]) if seed in self.configurations else 0

    @property
    def _dealt(self) -> list[str]:
        return list(
            dict.fromkeys(self.configurations[s] for s in (*self.order, *self.seeds) if s in self.configurations)
        )

    @property
    def deterministic(self) -> bool:
        """Whether the method has no seed, so that its scores are constants."""
        return self.seeds == {None}

    @property
    def lacking(self) -> dict[Seed, str]:
        """The seeds that were tried and have no numbers: no test may pass over them (docs/statistics.md 5.6)."""
        return {**self.failed, **self.stopped}

    def means(self, datasets: Iterable[str]) -> dict[Seed, float]:
        """Mean over `datasets` by seed, for the seeds that have every one of them (docs/statistics.md 5.4)."""
        wanted = list(datasets)
        return {
            seed: math.fsum(scores[d].value for d in wanted) / len(wanted)
            for seed, scores in _by_seed(self.scores)
            if wanted and all(d in scores for d in wanted)
        }


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The confirm scores of all methods, with test sets in the order that a report shows them."""

    methods: dict[str, Trials]
    id_sets: tuple[str, ...]
    ood_sets: tuple[str, ...]
    added_sets: tuple[str, ...] = ()
    """Test sets that were added after the registration: they are in no mean."""
    diagnostic_sets: tuple[str, ...] = ()
    """They are in no mean either, and shown alone."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """ID sets, then shifts, then what was added."""
        return self.id_sets + self.ood_sets + self.added_sets


def read_scores(rows: pa.Table, record: Mapping[str, Any]) -> Scores:
    """The confirm scores in `rows`, checked.

    Raises UserError if a seed of `confirm` was also used in search or rerank, or if two confirm rows claim the same
    method, seed, dataset and metric. A value that is missing, not finite or outside [0, 1] is a failure, never a 0.
    """
    _check_seeds(rows)
    # A trial that could not be run is still to come: it is neither an attempt nor a failure of its method.
    confirm = rows.filter(pc.and_(pc.equal(rows["phase"], "confirm"), pc.not_equal(rows["status"], "error")))
    _check_duplicates(confirm)
    roles: dict[str, str] = {}
    metric, elsewhere = metric_of(record), record.get("source") is not None
    found: dict[str, Trials] = {}
    in_turn = tuple(record.get("confirm_seeds") or ())
    # Rows may arrive in any order, and a report may not depend on it.
    order = [(key, "ascending") for key in ("method", "seed", "dataset", "metric")]
    for row in confirm.sort_by(order).to_pylist():
        name = row["method"]
        if name not in found:
            found[name] = Trials(
                method=name, elsewhere=elsewhere, order=in_turn, searches=searches_of(name, record)
            )  # fmt: skip
        trials = found[name]
        seed: Seed = row["seed"]
        if not trials.seeds or seed in in_turn[:1]:
            trials.settings, trials.configuration = row["settings"], row["configuration"]
        trials.seeds.add(seed)
        trials.configurations[seed] = row["configuration"]
        if row["role"] in _TESTED:
            roles[row["dataset"]] = row["role"]
        if row["status"] == "failed":
            trials.failed.setdefault(seed, row["error"] or "failed without a message")
        elif row["status"] == "stopped":
            trials.stopped.setdefault(seed, row["error"] or "stopped")
        elif row["metric"] == metric and row["role"] in _TESTED and row["status"] == "ok":
            value = row["value"]
            if value is None or not math.isfinite(value) or not 0 <= value <= 1:
                trials.failed.setdefault(seed, f"{metric} on {row['dataset']} is {value}, not a number in [0, 1]")
                continue
            trials.scores.setdefault(seed, {})[row["dataset"]] = Score(
                value=value, n=row["n"], examples=row["examples"], packed=row["correct"]
            )
    if not is_dealt(config(record)):
        _check_configurations(confirm)
    declared = list((record.get("data") or {}).get("roles") or {})
    ordered, later = in_order(roles, declared), set(added_sets(record))
    return Scores(
        methods={name: found[name] for name in in_order(found, list(config(record).get("methods") or {}))},
        id_sets=tuple(d for d in ordered if roles[d] == "id" and d not in later),
        ood_sets=tuple(d for d in ordered if roles[d] == "ood" and d not in later),
        added_sets=tuple(d for d in ordered if d in later and roles[d] != "diagnostic"),
        # One that came with a later version has rows of the trials since then alone, so it is not shown.
        diagnostic_sets=tuple(d for d in ordered if roles[d] == "diagnostic" and d in declared),
    )


def config(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sweep file inside the record."""
    return record.get("config") or {}


def metric_of(record: Mapping[str, Any]) -> str:
    """The metric that a report is about."""
    return record.get("metric") or METRIC


def searches_of(method: str, record: Mapping[str, Any]) -> int:
    """How often the search of `method`, or of the one that it is derived from, was repeated; 0 for once or never."""
    repeats = (config(record).get("search") or {}).get("repeats", 1)
    declared = config(record).get("methods") or {}
    label = (record.get("arms") or {}).get(method, method)
    while (base := (declared.get(label) or {}).get("of")) in declared:
        label = base
    is_open = any(isinstance(value, Mapping) for value in (declared.get(label) or {}).values())
    return repeats if repeats > 1 and is_open else 0


def in_order(names: Iterable[str], declared: list[str]) -> list[str]:
    """`names`, the declared ones first and in that order, the others by alphabet."""
    known = set(names)
    first = [name for name in dict.fromkeys(declared) if name in known]
    return first + sorted(known - set(first))


def _by_seed(scores: Mapping[Seed, dict[str, Score]]) -> list[tuple[Seed, dict[str, Score]]]:
    return sorted(scores.items(), key=lambda item: (item[0] is not None, item[0] or 0))


def _check_seeds(rows: pa.Table) -> None:
    used: dict[str, set[int]] = {}
    for phase, seed in zip(rows["phase"].to_pylist(), rows["seed"].to_pylist(), strict=True):
        if seed is not None:
            used.setdefault(phase, set()).add(seed)
    for phase in ("search", "rerank"):
        if both := used.get("confirm", set()) & used.get(phase, set()):
            raise UserError(
                f"confirm used seed {in_list(sorted(both))}, which {phase} used too: numbers that chose a "
                "configuration cannot confirm it; run confirm with fresh seeds"
            )


def _check_duplicates(confirm: pa.Table) -> None:
    keys = ["method", "seed", "dataset", "metric"]
    seen: set[tuple[Any, ...]] = set()
    for row in confirm.select(keys).to_pylist():
        key = tuple(row[name] for name in keys)
        if key in seen:
            raise UserError(
                f"two confirm rows for method {row['method']}, seed {row['seed']}, dataset {row['dataset']}, metric "
                f"{row['metric']}: a report needs exactly one"
            )
        seen.add(key)


def _check_configurations(confirm: pa.Table) -> None:
    found: dict[str, set[str]] = {}
    for row in confirm.select(["method", "configuration"]).to_pylist():
        found.setdefault(row["method"], set()).add(row["configuration"])
    for method, configurations in sorted(found.items()):
        if len(configurations) > 1:
            raise UserError(
                f"method {method} has {len(configurations)} configurations in confirm "
                f"({in_list(sorted(configurations))}): one method is one configuration there; give each its own label"
            )
