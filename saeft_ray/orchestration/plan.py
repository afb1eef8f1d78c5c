"""Config → artifacts and trials. Pure and printable: it asks for sizes and fingerprints, and runs nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from saeft_ray.config.choose import arm_of
from saeft_ray.config.schema import SweepConfig
from saeft_ray.draws import seed_of
from saeft_ray.errors import UserError
from saeft_ray.methods import DictionaryKind, Method
from saeft_ray.methods.facts import Facts
from saeft_ray.records.rows import TESTED, Phase
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.settings import Choices, Range
from saeft_ray.storage.fingerprint import canonical, fingerprint

# Raised when the code that makes an artifact changes what it makes, so that old ones are not taken for new.
VERSIONS = {"head": 1, "activations": 1, "dictionary": 2, "constants": 1, "endpoint": 1}

_NONE: Mapping[str, Sequence[Method]] = {}

SHARD = 1 << 14  # images whose activations are one piece of work; a multiple of the batch that computes them

# The settings of a dictionary that its bytes depend on: those of every kind, then those of some kinds.
_SHAPES = {"width", "k", "activation", "input"}
_DETERMINED_BY = {
    "trained": {"recipe", "steps", "epochs", "batch_size", "lr", "aux", "dead_after"},
    "untrained": {"recipe"},
}


class Artifact(NamedTuple):
    """Shared work. `identity` determines its bytes; `needs` must exist before it is built.

    `shards` are what it is put together from: built one by one, by whoever is free, and removed once it is whole.
    """

    kind: Literal["head", "activations", "shard", "dictionary", "constants", "endpoint"]
    identity: dict[str, Any]
    bytes: int | None  # where that is known beforehand
    needs: tuple["Artifact", ...] = ()
    shards: tuple["Artifact", ...] = ()

    @property
    def key(self) -> str:
        return fingerprint(self.identity, 24)


class Plan:
    """The artifacts and the trials of a sweep."""

    def __init__(self, config: SweepConfig, facts: Facts):
        data = config.data.prepared(facts.preprocessing)
        self.config = config.model_copy(update={"data": data})
        self.facts = facts
        self.view_seed = seed_of("views", config.seed)

    # Artifacts -------------------------------------------------------------------------------------------------

    def head(self) -> Artifact:
        data = self.config.data
        identity = {
            "model": self.facts.model,
            "classes": list(data.class_names()),
            "prompts": list(data.prompts()),
            "version": VERSIONS["head"],
        }
        return Artifact("head", identity, 4 * self.facts.classes * self.facts.width)

    def activations(self) -> Artifact:
        """Frozen embeddings of the train split's pool of views; of as many views as the limit allows, at least one."""
        identity: dict[str, Any] = {
            "model": self.facts.model,
            "data": self.facts.train,
            "views": self.pool,
            "view_seed": self.view_seed,
            "version": VERSIONS["activations"],
        }
        if self.config.train.precision != "fp32":
            identity["precision"] = self.config.train.precision
        n, bytes_an_image = self.facts.sizes["train"], 4 * self.pool * self.facts.width
        pieces = [range(start, min(start + SHARD, n)) for start in range(0, n, SHARD)]
        shards = tuple(
            Artifact("shard", {"of": identity, "images": [p.start, p.stop]}, bytes_an_image * len(p)) for p in pieces
        )
        return Artifact("activations", identity, bytes_an_image * n, shards=shards if len(shards) > 1 else ())

    def dictionary(self, kind: DictionaryKind, number: int) -> Artifact:
        """Dictionary `number` of its kind; `untrained` is what `trained` begins from, `permuted` is made of it."""
        settings, needs = self.config.dictionary, [self.activations()]
        imported = self.facts.imported if kind == "trained" else None
        used = _SHAPES if imported else _SHAPES | _DETERMINED_BY.get(kind, set())
        drawn = kind != "pca" and not imported
        drawn_as = "trained" if kind == "untrained" else kind
        identity: dict[str, Any] = {
            "kind": kind,
            "activations": needs[0].identity,
            "settings": settings.model_dump(include=used),
            "seed": seed_of("dictionary", drawn_as, self.config.seed, number) if drawn else None,
            "version": VERSIONS["dictionary"],
        }
        if imported:
            identity["imported"] = imported
        if kind == "permuted":
            needs.append(self.dictionary("trained", number))
            identity["trained"] = needs[1].identity
        return Artifact("dictionary", identity, 8 * settings.width * self.facts.width, tuple(needs))

    def constants(self, method: Method, needs: tuple[Artifact, ...]) -> Artifact:
        """The artifact that `method` prepares from what it `needs`, the same for all its lambdas."""
        settings = {k: v for k, v in method.model_dump(mode="json").items() if not k.startswith("lambda_")}
        identity = {
            "method": settings,
            "data": self.facts.train,
            "view_seed": self.view_seed,
            "needs": [artifact.key for artifact in needs],
            "version": VERSIONS["constants"],
        }
        return Artifact("constants", identity, None, needs)

    def final_weights(self, spec: TrialSpec) -> Artifact:
        """The weights that the training of `spec` ends in; phases and derived methods share them."""
        method = spec.trained
        assert method is not None
        needs = self.needs(spec)
        identity = {
            "model": self.facts.model,
            "data": self.facts.train,
            "train": self.config.train.model_dump(exclude={"cache_gb", "views"}),
            "views": self.config.views,
            "view_seed": self.view_seed,
            "method": method.model_dump(mode="json"),
            "seed": spec.seed,
            "needs": [artifact.key for artifact in needs],
            "version": VERSIONS["endpoint"],
        }
        return Artifact("endpoint", identity, None, needs)

    def needs(self, spec: TrialSpec) -> tuple[Artifact, ...]:
        """The artifacts that a trial reads before it trains: the head, then those that its method asks for."""
        number = spec.number % self.config.dictionary.seeds if spec.phase in TESTED else 0
        return self._needs(spec.trained or spec.settings, number)

    def _needs(self, method: Method, number: int) -> tuple[Artifact, ...]:
        """The artifacts that `method` reads if its dictionary is the one with that `number`."""
        found = [self.head()]
        if self.reads_activations(method):
            found.append(self.activations())
        if method.dictionary_kind:
            found.append(self.dictionary(method.dictionary_kind, number))
        if method.has_constants:
            found.append(self.constants(method, tuple(found)))
        return tuple(found)

    def artifacts(self) -> list[Artifact]:
        """Everything that trials share, each once, what is needed before what needs it."""
        found: dict[str, Artifact] = {}

        def add(artifact: Artifact) -> None:
            for need in artifact.needs:
                add(need)
            found.setdefault(artifact.key, artifact)

        for method in self.config.methods.values():
            for number in range(self.config.dictionary.seeds if method.dictionary_kind else 1):
                for artifact in self._needs(method, number):
                    add(artifact)
        return list(found.values())

    def reads_activations(self, method: Method) -> bool:
        """Whether a trial of `method` reads stored activations: in every step, or once before training."""
        return method.needs_all_embeddings or (method.compares == "embeddings" and self.cached)

    @property
    def cached(self) -> bool:
        """Whether the whole pool's activations are stored, so that training runs no frozen encoder."""
        return self.config.views * self._bytes_a_view <= self.config.train.cache_gb * 1e9

    @property
    def pool(self) -> int:
        """Views of each image whose activations are stored."""
        fit = int(self.config.train.cache_gb * 1e9 // self._bytes_a_view)
        return min(self.config.views, max(1, fit))

    @property
    def _bytes_a_view(self) -> int:
        return 4 * self.facts.sizes["train"] * self.facts.width

    # Trials ----------------------------------------------------------------------------------------------------

    def tunable(self) -> dict[str, Method]:
        """Methods whose open values the search chooses."""
        return {label: m for label, m in self.config.methods.items() if m.open_values() and m.base is None}

    @property
    def searched_at_once(self) -> int:
        """Trials of the search that can run at once."""
        search = self.config.search
        return len(self.tunable()) * search.repeats * min(search.lag, search.trials)

    def derived(self) -> dict[str, Method]:
        """Methods that reuse another's end point and leave values open, chosen in the rerank phase."""
        return {label: m for label, m in self.config.methods.items() if m.open_values() and m.base is not None}

    def arms(self) -> dict[str, str]:
        """The configurations that every rule but the first confirms, by name, with the method of each."""
        open_ = [*self.tunable(), *self.derived()]
        return {
            arm_of(label, rule): label
            for label in self.config.methods
            if label in open_
            for rule in self.config.choose[1:]
        }

    @property
    def labels(self) -> list[str]:
        """What the confirm phase runs: the methods, and what further rules chose for them."""
        return [*self.config.methods, *self.arms()]

    def reference_labels(self) -> tuple[str, str]:
        """The methods that `keep_gain` measures a gain with: plain fine-tuning and zero-shot."""
        types = {str(getattr(method, "type", "")): label for label, method in reversed(self.config.methods.items())}
        return types["ft"], types["zero_shot"]

    def references(self) -> list[TrialSpec]:
        """Their trials in the phase `rerank`; none where no rule asks for them."""
        if not any(rule.rule == "keep_gain" for rule in self.config.choose):
            return []
        plain, zero_shot = self.reference_labels()
        methods = self.config.methods
        once = TrialSpec(phase="rerank", method=zero_shot, settings=methods[zero_shot], seed=None, number=0)
        return [*self.rerank({plain: [methods[plain]]}, methods), once]

    @property
    def selected(self) -> int:
        """Images of the selection split."""
        return max(1, self.facts.sizes["selection"])

    def seeds(self, phase: Phase) -> list[int]:
        """The seeds of a phase in the order of their use. Seeds of different phases are disjoint."""
        repeats = self.config.search.repeats
        counts = {
            "search": repeats, "rerank": repeats * self.config.rerank.seeds, "confirm": self.config.confirm.max_seeds
        }  # fmt: skip
        if phase == "curves":
            return self.seeds("confirm")[: self.config.curves.seeds] if self.config.curves else []
        drawn = {"confirm": [self.config.confirm.draw] if self.config.confirm.draw else []}
        seeds = {
            name: [seed_of(name, self.config.seed, i, *drawn.get(name, ())) for i in range(counts[name])]
            for name in counts
        }
        flat = [seed for name in counts for seed in seeds[name]]
        if len(set(flat)) < len(flat):
            raise UserError(f"seed: {self.config.seed} gives two phases one seed of training; give another number")
        return seeds[phase]

    def rerank(
        self, candidates: Mapping[str, list[Method]], chosen: Mapping[str, Method], repeat: int = 0
    ) -> list[TrialSpec]:
        """Every candidate configuration of that repeat of the search with its rerank seeds; `chosen` holds the settings
        of bases."""
        seeds = self.seeds("rerank")[repeat :: self.config.search.repeats]
        return [
            self._spec("rerank", label, settings, chosen, seed, number)
            for label, best in candidates.items()
            for settings in best
            for number, seed in enumerate(seeds)
        ]

    def alternatives(self, label: str) -> list[Method]:
        """Every configuration of a derived method; evaluating one costs no training."""
        method = self.config.methods[label]
        ((name, value),) = method.open_values().items()
        assert isinstance(value, Choices)
        return [method.with_values({name: choice}) for choice in value.choices]

    def confirm(self, chosen: Mapping[str, Method], others: Mapping[str, Sequence[Method]] = _NONE) -> list[TrialSpec]:
        """Every method at its chosen configuration with the confirm seeds; methods without a seed run once. `others`
        share the seeds of a method with the chosen one: seed i takes the configuration i mod their number."""
        specs, dealt = list[TrialSpec](), {m: [first, *others.get(m, ())] for m, first in chosen.items()}
        for number, seed in enumerate(self.seeds("confirm")):
            now = {label: each[number % len(each)] for label, each in dealt.items()}
            specs += [
                self._spec("confirm", label, method, now, seed if self._is_seeded(method) else None, number)
                for label, method in _bases_first(now)
                if self._is_seeded(method) or number == 0
            ]
        return specs

    def curves(self, chosen: Mapping[str, Method]) -> list[TrialSpec]:
        """Every method with lambdas at other strengths than `chosen`, with the first confirm seeds; of a derived method
        every alternative, which costs no training. None where the sweep file asks for no curves."""
        points = {label: self._path(label, method) for label, method in _bases_first(chosen)}
        return [
            self._spec("curves", label, settings, chosen, seed, number)
            for number, seed in enumerate(self.seeds("curves"))
            for label, path in points.items()
            for settings in path
        ]

    def _path(self, label: str, method: Method) -> list[Method]:
        """The settings of a method over its strengths; with an odd number of points, the chosen one among them."""
        if self.config.curves is None or label in self.arms():
            return []
        if method.base is not None:
            return self.alternatives(label) if label in self.derived() else []
        lambdas = {n: v for n, v in method if n.startswith("lambda_") and isinstance(v, int | float) and v > 0}
        if not lambdas or not method.trains:
            return []
        points, span = self.config.curves.points, self.config.curves.span
        factors = [span ** (2 * k / (points - 1) - 1) for k in range(points)]
        return [method.with_values({n: float(v * factor) for n, v in lambdas.items()}) for factor in factors]

    @staticmethod
    def _spec(
        phase: Phase, label: str, settings: Method, chosen: Mapping[str, Method], seed: int | None, number: int
    ) -> TrialSpec:
        """A trial with these `settings`; `chosen` holds those of its base, if it has one."""
        base = chosen[settings.base] if settings.base else None
        return TrialSpec(phase=phase, method=label, settings=settings, base=base, seed=seed, number=number)

    @staticmethod
    def _is_seeded(method: Method) -> bool:
        return method.trains or method.base is not None

    def counts(self) -> dict[Phase, int]:
        """Trials of every phase."""
        config = self.config
        top = min(config.rerank.top * len(config.choose), config.search.trials)
        alternatives = sum(len(self.alternatives(label)) for label in self.derived())
        return {
            "search": len(self.tunable()) * config.search.trials * config.search.repeats,
            "rerank": (len(self.tunable()) * top * config.search.repeats + alternatives) * config.rerank.seeds
            + len(self.references()),
            "confirm": len(self.confirm({**config.methods, **self._arms()})),
            **({"curves": len(self.curves(self._closed()))} if config.curves else {}),
        }

    def trainings(self) -> Iterator[tuple[Phase, int]]:
        """How many trials of every phase train; the others only evaluate."""
        counts = self.counts()
        trained = {label: method for label, method in self.config.methods.items() if method.trains}
        bases = {str(m.base) for m in self.derived().values()} - self.tunable().keys()
        top = min(self.config.rerank.top * len(self.config.choose), self.config.search.trials)
        yield "search", counts["search"]
        plain = 1 if self.references() else 0
        reranked = len(self.tunable()) * top * self.config.search.repeats
        yield "rerank", (reranked + len(bases) + plain) * self.config.rerank.seeds
        arms = [method for method in self._arms().values() if method.trains]
        yield "confirm", (len(trained) + len(arms)) * self.config.confirm.max_seeds
        if self.config.curves:
            closed = self._closed()
            # The weights of a strength that the confirm phase has trained with that seed are taken from there.
            confirm = [] if self.config.dealt else self.confirm(closed)
            there = {(spec.method, canonical(spec.values), spec.seed) for spec in confirm}
            curves = {(s.method, canonical(s.values), s.seed) for s in self.curves(closed) if s.base is None}
            yield "curves", len(curves - there)

    def _closed(self) -> dict[str, Method]:
        """The methods with some value in place of each open one: as many trials follow from any."""
        methods = self.config.methods.items()
        return {m: method.with_values({n: _any(v) for n, v in method.open_values().items()}) for m, method in methods}

    def _arms(self) -> dict[str, Method]:
        return {arm: self.config.methods[label] for arm, label in self.arms().items()}

    @property
    def steps(self) -> int:
        """Optimizer steps of one training."""
        train = self.config.train
        return max(1, self.facts.sizes["train"] // train.batch_size) * train.epochs


def _bases_first(chosen: Mapping[str, Method]) -> list[tuple[str, Method]]:
    return sorted(chosen.items(), key=lambda item: item[1].base is not None)


def _any(value: Range | Choices) -> float:
    return float(max(value.choices)) if isinstance(value, Choices) else value.high
