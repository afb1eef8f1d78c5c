"""What changed in a sweep: its trials are recorded, tested over seeds, named and put together.

Shapes: S seeds, N images, D dictionary width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saeft_ray.features import testing
from saeft_ray.features.activity import Ints
from saeft_ray.features.comparisons import Comparison, Records, to_frozen, to_method
from saeft_ray.features.compute import trials
from saeft_ray.features.content import (
    FROZEN,
    Feature,
    Reading,
    Replication,
    Shortcut,
    Similarity,
    Specimen,
    WhatChanged,
)
from saeft_ray.features.described import Stability, chosen, described, most_changed
from saeft_ray.features.each import Map, serially
from saeft_ray.features.firings import firings
from saeft_ray.features.frozen import Frozen
from saeft_ray.features.movements import movement
from saeft_ray.features.naming import Named, bank_of, labels_of, named, specimens
from saeft_ray.features.readers import KINDS, Kind
from saeft_ray.features.recording import Find, Prepare, Record, device_of
from saeft_ray.features.reliances import reliances
from saeft_ray.features.replication import Replicate, in_words, replications
from saeft_ray.features.sentences import sentences
from saeft_ray.features.similarities import Alike, Blocks, gathered, of_records
from saeft_ray.model import encoder
from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.merged import made_of
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.store import Store

T = TypeVar("T")


def what_changed(
    plan: Plan,
    ledger: Ledger,
    store: Store,
    *,
    methods: Sequence[str] | None = None,
    against: str | None = None,
    each: Map = serially,
) -> WhatChanged:
    """What `methods` (None: all) added to features and removed from them, by the settings `plan.config.features`.

    `against`: "frozen", or a method that the others are compared with too (None: the sweep's baseline). `each` does the
    work of every trial. What cannot be recorded is said in `missing`. Raises UserError if the images are gone.
    """
    run = _Run(plan, ledger, store, each, missing := _unrecorded(plan, ledger, methods))
    baseline = plan.config.report.baseline if against is None else None if against == FROZEN else against
    asked = [spec for spec in trials(plan, ledger) if methods is None or spec.method in (*methods, baseline)]
    in_file = {label: number for number, label in enumerate(plan.config.methods)}
    records = run.records(sorted(asked, key=lambda spec: in_file[spec.method]))
    if baseline not in (None, *records["trained"]):
        missing.append(f"No method is compared with {baseline}: it has no record.")
        baseline = None
    if not any(records.values()):
        return _content(plan, baseline, missing=missing)
    frozen = Frozen(plan, store, device_of(plan))
    bank, given = bank_of(plan, missing), labels_of(plan, frozen, missing)
    readers = [named(plan, frozen, kind, bank, given) for kind in KINDS if records[kind]]
    shown = [method for method in records["trained"] if methods is None or method in methods]
    readings = tuple(run.reading(each_, records[each_.kind], frozen.count, methods) for each_ in readers)
    comparisons = run.comparisons(records["trained"], shown, baseline, frozen, readers)
    features: tuple[Feature, ...] = ()
    shortcuts: tuple[Shortcut, ...] = ()
    fired: pa.Table | None = None
    replicated: tuple[Replication, ...] = ()
    if comparisons:
        features = run.features(readers[0], comparisons, frozen)
        replicated = run.replications(comparisons, readers[0], frozen, asked)
        places = most_changed(np.array([each_.index for each_ in features], np.int64), comparisons)
        fired = firings(comparisons, places, frozen, missing)
        settings = plan.config.features
        shortcuts = reliances(comparisons, readers[0], frozen, plan.config.seed, settings.alpha, missing)
    first = next(found for found in records.values() if found)
    return _content(
        plan,
        baseline,
        missing=missing,
        readings=readings,
        features=features,
        shortcuts=shortcuts,
        similarities=run.similarities(first, [m for m in first if methods is None or m in methods], baseline, asked),
        specimens=specimens(readers, frozen),
        replications=replicated,
        fired=fired,
        images=frozen.count,
    )


@dataclass(frozen=True)
class _Run:
    """One computation of what changed."""

    plan: Plan
    ledger: Ledger
    store: Store
    each: Map
    missing: list[str]

    def records(self, asked: list[TrialSpec]) -> dict[Kind, Records]:
        """The records of the trials through every reader, by kind and method."""
        found: dict[Kind, Records] = {kind: {} for kind in KINDS}
        if not asked:
            return found
        for said in self.each(Prepare(self.plan, self.store), [KINDS]):
            self.missing.extend(said)
        things = [(spec, kind) for kind in KINDS for spec in asked]
        for record in self._sound(self.each(Record(self.plan, self.store), things)):
            found[record.kind].setdefault(record.method, []).append(record)
        return found

    def reading(self, one: Named, records: Records, images: int, methods: Sequence[str] | None) -> Reading:
        settings, live = self.plan.config.features, self._live(one, images)
        return Reading(
            kind=one.shown_as,
            width=len(live),
            live=int((one.on0 > 0).sum()),
            tested=int(live.sum()),
            named=one.names_given,
            movements=tuple(
                movement(method, found, live, settings.least, settings.alpha)
                for method, found in records.items()
                if methods is None or method in methods
            ),
        )

    def comparisons(
        self, records: Records, shown: list[str], baseline: str | None, frozen: Frozen, readers: list[Named]
    ) -> list[Comparison]:
        """Every shown method against the frozen model, then against the baseline."""
        if not records:
            return []
        settings, one = self.plan.config.features, readers[0]
        live = self._live(one, frozen.count)
        fixed = (frozen, one.active, live, settings.least, settings.alpha)
        found = []
        for method in shown:
            found.append(to_frozen(method, records[method], *fixed))
            if baseline not in (None, method):
                compared = to_method(method, baseline, records, *fixed)
                if compared:
                    found.append(compared)
                else:
                    self.missing.append(f"{method} has no seed in common with {baseline}, and is not compared with it.")
        return found

    def features(self, one: Named, comparisons: list[Comparison], frozen: Frozen) -> tuple[Feature, ...]:
        places = chosen(one.on0, self._live(one, frozen.count))
        return described(places, one, comparisons, frozen, self._stability(places))

    def replications(
        self, comparisons: list[Comparison], one: Named, frozen: Frozen, asked: list[TrialSpec]
    ) -> tuple[Replication, ...]:
        """In the mode `full`: whether changes replicate in SAEs of other seeds."""
        settings = self.plan.config.features
        if settings.mode != "full" or self.plan.facts.imported or not settings.stability:
            return ()
        own = {c.method: c.tested.mean for c in comparisons if c.against == FROZEN}
        places = np.flatnonzero(self._live(one, frozen.count))
        specs = tuple(spec for spec in asked if spec.method in own)
        numbers = range(1, settings.stability + 1)
        others = [*self._sound(self.each(Replicate(self.plan, self.store, places, specs), numbers))]
        return replications({method: mean[places] for method, mean in own.items()}, others)

    def similarities(
        self, records: Records, shown: list[str], baseline: str | None, asked: list[TrialSpec]
    ) -> tuple[Similarity, ...]:
        """CKA with the frozen model and with the baseline on common seeds; in the mode `full` of every block too."""
        found = of_records({method: records[method] for method in shown})
        by = {(spec.method, spec.number): spec for spec in asked}
        for method in shown:
            if baseline is None or method == baseline:
                continue
            pairs = [(s, by[baseline, n]) for (m, n), s in by.items() if m == method and (baseline, n) in by]
            if pairs:
                sites = [*self._sound(self.each(Alike(self.plan, self.store), pairs))]
                found += gathered(method, baseline, sites)
        if self.plan.config.features.mode != "full":
            return tuple(found)
        if encoder.blocks(self.plan.config.model) is None:
            self.missing.append("CKA of blocks is not there: this image tower has no transformer blocks.")
            return tuple(found)
        for method in shown:
            specs = [spec for spec in asked if spec.method == method]
            found += gathered(method, FROZEN, [*self._sound(self.each(Blocks(self.plan, self.store), specs))])
        return tuple(found)

    def _stability(self, places: Ints) -> Stability:
        """Where the described features are found in SAEs of other seeds."""
        count = self.plan.config.features.stability
        if self.plan.facts.imported and count:
            self.missing.append("Features are not looked for in other SAE seeds: the SAE is imported.")
            count = 0
        found = [*self._sound(self.each(Find(self.plan, self.store, places), range(1, count + 1)))]
        times = np.sum(found, axis=0, dtype=int).T.tolist() if found else []
        return Stability({f: (way, other) for f, (way, other) in zip(places.tolist(), times, strict=False)}, len(found))

    def _sound(self, results: Iterator[T | str]) -> Iterator[T]:
        """Results that are there; sentences go to `missing`."""
        for result in results:
            if isinstance(result, str):
                self.missing.append(result)
            else:
                yield result

    @staticmethod
    def _live(one: Named, images: int) -> NDArray[np.bool_]:
        return testing.live(one.on0.astype(np.float64), images)


def _unrecorded(plan: Plan, ledger: Ledger, methods: Sequence[str] | None) -> list[str]:
    """What has no record from the first: methods without weights of their own, and trials that failed."""
    asked = [spec for spec in ledger.asked("confirm") if methods is None or spec.method in methods]
    without = dict.fromkeys(spec.method for spec in asked if spec.trained is None)
    said = [f"{method} trains no weights: its embeddings are those of the frozen model." for method in without]
    results = ledger.results("confirm")
    wanted = plan.config.methods if methods is None else tuple(dict.fromkeys(methods))
    # Methods with a range of seeds may end before its last.
    every = asked if plan.config.confirm.until or made_of(ledger.record()) else plan.confirm(plan.config.methods)
    planned = [spec for spec in every if spec.method in wanted]
    if later := len(planned) - sum(spec.id in results for spec in asked):
        said.append(f"The sweep has not ended: {later} of {len(planned)} confirm trials are not there yet.")
    stopped = ledger.stopped("confirm")
    said += [
        f"{spec.id} {'was stopped on purpose' if spec.id in stopped else 'failed'} and has no record."
        for spec in asked
        if results.get(spec.id, 0.0) is None
    ]
    known = {spec.method for spec in asked}
    return said + [f"{method} has no trial in the confirm phase." for method in wanted if method not in known]


def _content(
    plan: Plan,
    baseline: str | None,
    *,
    missing: list[str],
    readings: tuple[Reading, ...] = (),
    features: tuple[Feature, ...] = (),
    shortcuts: tuple[Shortcut, ...] = (),
    similarities: tuple[Similarity, ...] = (),
    specimens: tuple[Specimen, ...] = (),
    replications: tuple[Replication, ...] = (),
    fired: pa.Table | None = None,
    images: int | None = None,
) -> WhatChanged:
    settings = plan.config.features
    return WhatChanged(
        sweep=plan.config.name,
        alpha=settings.alpha,
        least=settings.least,
        baseline=baseline,
        sets=tuple(settings.sets or plan.config.data.test_sets()),
        sentences=(*sentences(readings, settings.alpha, settings.least, features), *map(in_words, replications)),
        readings=readings,
        features=features,
        shortcuts=shortcuts,
        similarities=similarities,
        specimens=specimens,
        replications=replications,
        missing=tuple(dict.fromkeys(missing)),
        images=images,
        firings=fired,
    )
