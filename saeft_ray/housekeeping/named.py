"""Which artifacts a sweep names: its plan gives their keys; of what was read from its trials later, the descriptions.

A sweep that this version cannot account for names everything: what is not known to be useless stays.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from saeft_ray.errors import UserError
from saeft_ray.features.readers import KINDS, reader
from saeft_ray.housekeeping.inventory import Inventory, Name
from saeft_ray.methods import DictionaryKind
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import PHASES
from saeft_ray.storage.fingerprint import canonical
from saeft_ray.storage.store import Store

DESCRIBED = ("dictionary", "embeddings", "codes", "record", "blocks", "examples")
"""The kinds whose keys do not follow from a sweep's record alone: which sets and seeds were asked for later decides."""
KNOWN = {"head", "activations", "shard", "constants", "endpoint", "checkpoint", *DESCRIBED}
_DRAWN = ("seed", "trained")  # what differs between dictionaries of one sweep


@dataclass(frozen=True)
class Account:
    """What one sweep names. `keys` are known exactly; `weights` are the keys of all its final weights, `under_way`
    those of trials that have not ended."""

    plan: Plan
    ledger: Ledger
    keys: frozenset[Name]
    weights: frozenset[str]
    under_way: frozenset[str]
    readers: frozenset[str]
    dictionaries: frozenset[str]

    def names(self, name: Name, description: Mapping[str, Any]) -> bool:
        """Whether the sweep, its replay, export or features read the artifact `name`."""
        if name in self.keys:
            return True
        match name.kind:
            case "checkpoint":
                return name.key.partition("-")[0] in self.under_way
            case "dictionary":
                return _undrawn(description) in self.dictionaries
            case "embeddings":
                return self._embeds(description)
            case "codes":
                return description.get("reader") in self.readers and self._embeds(description.get("of"))
            case "record":
                return description.get("reader") in self.readers and all(map(self._embeds, description["trial"]))
            case "blocks":
                return all(map(self._embeds, description["trial"]))
            case "examples":
                return bool(description.get("data") == self.plan.facts.data)
        return False

    def concerns(self, description: Mapping[str, Any]) -> bool:
        """Whether a trial of this sweep that is yet to come may find the described artifact."""
        facts, text = self.plan.facts, canonical(description)
        return not description or any(known in text for known in (facts.train, facts.data, canonical(facts.model)))

    def _embeds(self, identity: Any) -> bool:
        """Whether `identity` is that of embeddings by the frozen model, or by one of the sweep's tuned ones."""
        facts = self.plan.facts
        same = isinstance(identity, Mapping) and (identity["model"], identity["data"]) == (facts.model, facts.data)
        return same and (identity["weights"] is None or identity["weights"] in self.weights)


def account(store: Store, sweep: str, inventory: Inventory) -> Account:
    """What `sweep` names. Raises an exception, of any kind, if that cannot be told."""
    plan, ledger, _ = reopen(f"{store.url}/sweeps/{sweep}", store.endpoint)
    whole, ended = inventory.whole, ledger.finished()
    trials = [spec for phase in PHASES for spec in ledger.asked(phase)]
    weights = {spec.id: plan.final_weights(spec).key for spec in trials if spec.trained}
    keys = {Name("endpoint", key) for key in weights.values()}
    for artifact in (*plan.artifacts(), *(need for spec in trials for need in plan.needs(spec))):
        name = Name(artifact.kind, artifact.key)
        keys |= {name} | ({Name(s.kind, s.key) for s in artifact.shards} if name not in whole else set())
    confirmed = {trial for trial, value in ledger.results("confirm").items() if value is not None}
    lost = [trial for trial, key in weights.items() if trial in confirmed and Name("endpoint", key) not in whole]
    if lost:
        raise UserError(
            f"weights of {len(lost)} of its ended trials, such as {lost[0]}, are not there under the names that this "
            "version gives them"
        )
    dictionaries = {_undrawn(plan.dictionary(kind, 0).identity) for kind in get_args(DictionaryKind)}
    return Account(
        plan=plan,
        ledger=ledger,
        keys=frozenset(keys | {Name("dictionary", reader(plan, "neurons").key)}),
        weights=frozenset(weights.values()),
        under_way=frozenset(key for trial, key in weights.items() if trial not in ended),
        readers=frozenset(reader(plan, kind).key for kind in KINDS),
        dictionaries=frozenset(dictionaries),
    )


def descriptions(store: Store, names: Collection[Name]) -> dict[Name, dict[str, Any]]:
    """What the manifests of `names` say of them; only of those that can be read."""
    found = store.manifests(names)
    return {Name(*name): manifest.describe for name, manifest in found.items()}


def _undrawn(identity: Mapping[str, Any]) -> str:
    return canonical({name: value for name, value in identity.items() if name not in _DRAWN})
