"""What a plan says in words: doubts about its sizes, what its artifacts are, and how long it will take."""

from collections import Counter
from collections.abc import Iterator
from time import time
from typing import Any

from saeft_ray.orchestration.cap import moment
from saeft_ray.orchestration.plan import Artifact, Plan
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.records.hours import seconds_driven
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import read_rows
from saeft_ray.storage.store import Store

FEW_SELECTED = 200  # images of the selection split below which one of them is worth more than half a point
_NAMED = 10


def classes(plan: Plan) -> str:
    """The classes by the names that the model reads, and by their folder where that is called otherwise."""
    data = plan.config.data
    names = list(data.class_names())
    folders = {label: name for name, label in data.class_folders().items() if name.replace("_", " ") != names[label]}
    shown = [f"{folders[i]} as {name}" if i in folders else name for i, name in enumerate(names[:_NAMED])]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{len(names):,} classes ({', '.join(shown)}{more})"


def doubts(plan: Plan) -> Iterator[str]:
    """What is allowed and can hardly give what is wanted of it, in sentences."""
    facts, settings = plan.facts, plan.config.dictionary
    chosen, rows = facts.sizes["selection"], facts.sizes["train"] * plan.pool
    if 0 < chosen < FEW_SELECTED:
        yield (
            f"data: the selection split has {chosen} images, so that one of them is worth {100 / chosen:.1f} points of "
            f"the accuracy that chooses values; from {FEW_SELECTED} on it is half a point or less"
        )
    read = any(method.dictionary_kind for method in plan.config.methods.values()) or plan.config.features.on
    if read and not facts.imported and settings.width > rows:
        yield (
            f"dictionary.width: {settings.width:,} atoms for {rows:,} embeddings ({facts.sizes['train']:,} images × "
            f"{views(plan.pool)}), so that it has more atoms than it sees examples; give a smaller width, or more views"
        )


def searched_at_once(plan: Plan) -> str:
    """How many trials of the search can run at once and why, in a sentence; "" without a search."""
    most, lag, room = plan.searched_at_once, plan.config.search.lag, plan.config.compute.concurrent or 0
    if not most:
        return ""
    searched, repeats = len(plan.tunable()), plan.config.search.repeats
    methods = f"{searched} method{'' if searched == 1 else 's'}" + (f" × {repeats} repeats" if repeats > 1 else "")
    searched *= repeats
    words = f"At most {most} trial{'' if most == 1 else 's'} of the search run{'s' if most == 1 else ''} at once"
    if room <= most or lag >= plan.config.search.trials:
        return f"{words}: {methods} × search.lag {lag}."
    enough = min(-(-room // searched), plan.config.search.trials)
    return (
        f"{words}, of the {room} that compute.concurrent allows: {methods} × search.lag {lag}. With search.lag "
        f"{enough} fewer workers wait, and each suggestion is made from the results of fewer trials."
    )


def names(plan: Plan) -> dict[str, str]:
    """What each artifact of `plan` is, by its key."""
    said: dict[str, str] = {}
    for method in plan.config.methods.values():
        if kind := method.dictionary_kind:
            sae = " (SAE)" if kind == "trained" else ""
            for number in range(plan.config.dictionary.seeds):
                artifact = plan.dictionary(kind, number)
                drawn = f", seed {number}" if artifact.identity["seed"] is not None else ""
                said.setdefault(artifact.key, f"dictionary {kind}{sae}{drawn or _undrawn(artifact)}")
                for need in artifact.needs:
                    if need.kind == "dictionary":
                        said.setdefault(need.key, f"dictionary {need.identity['kind']} (SAE), seed {number}")
    for artifact in plan.artifacts():
        said.setdefault(artifact.key, _plain_name(artifact))
    return said


def _undrawn(artifact: Artifact) -> str:
    return ", imported" if artifact.identity.get("imported") else ""


def _plain_name(artifact: Artifact) -> str:
    if artifact.kind == "activations":
        return f"frozen embeddings of train, {views(artifact.identity['views'])}"
    if artifact.kind == "constants":
        return f"constants of {artifact.identity['method']['type']}"
    return "zero-shot head" if artifact.kind == "head" else artifact.kind


def time_left(plan: Plan, store: Store) -> str:
    """How long a training took here, and what is left at that pace; else what measures it."""
    rows = _recorded(plan, store)
    spent = [row["value"] for row in rows if row["metric"] == "seconds" and row["value"] is not None]
    if not spent:
        return "How long this takes is not known yet: `python -m saeft_ray.preflight FILE` measures it."
    trains = {label for label, method in plan.config.methods.items() if method.trains}
    ended = Counter(phase for phase, _ in {(row["phase"], row["trial"]) for row in rows if row["method"] in trains})
    left = sum(max(0, trained - ended[phase]) for phase, trained in plan.trainings())
    mean = sum(spent) / len(spent)
    return (
        f"A training took {duration(mean)} here, the mean of {len(spent)} that ended; {left} are left, at most "
        f"{duration(left * mean)} one after the other, without their evaluation."
    )


def caps(plan: Plan, store: Store | None) -> Iterator[str]:
    """When the sweep will end early, in sentences; none without a cap. `store` where it can be read."""
    compute = plan.config.compute
    if compute.max_hours is not None:
        spent = 0.0 if store is None else seconds_driven(store, plan.config.name) / 3600
        known = "" if store is None else f", of which {spent:.2f} are spent"
        over = " It is reached: nothing more begins before it is raised." if spent >= compute.max_hours else ""
        yield (
            f"compute.max_hours: the sweep ends early after {compute.max_hours:g} hours over all its runs{known}.{over}"
        )
    if compute.deadline is not None:
        over = " It has passed: nothing more begins before it is changed." if moment(compute.deadline) <= time() else ""
        yield f"compute.deadline: the sweep ends early at {compute.deadline}.{over}"


def views(count: int) -> str:
    """A number of views of each image."""
    return f"{count} view{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _recorded(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """The rows of this sweep; none where it has not begun, or the plan cannot continue it."""
    ledger = Ledger(store, plan.config.name)
    try:
        if ledger.growth(record_of(plan, None, look=False)).refused:
            return []
    except (FileNotFoundError, NotADirectoryError):
        return []
    found: list[dict[str, Any]] = read_rows(ledger.url, store.endpoint).to_pylist()
    return [row for row in found if row["status"] != "error"]
