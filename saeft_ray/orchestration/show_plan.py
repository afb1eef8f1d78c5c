"""A plan as tables: what a run would build and train."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from saeft_ray.orchestration.growing import in_words, refused
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.plan_words import caps, classes, doubts, names, searched_at_once, time_left, views
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.orchestration.room import free, weights_to_keep
from saeft_ray.records import earlier
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import Phase
from saeft_ray.storage.retry import HASTY
from saeft_ray.storage.store import Store


@dataclass(frozen=True, repr=False)
class PlanSummary:
    """A summary of what a run would do. Printed, it is the table that `python -m saeft_ray.sweep FILE --plan` prints.

    `trials` is the number of trials of each phase, at most; `steps` the optimizer steps of one training.
    """

    trials: Mapping[Phase, int]
    steps: int
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def show(plan: Plan, console: Console) -> None:
    """Prints what a run would build and train."""
    store = Store(plan.config.storage.url, endpoint=plan.config.storage.endpoint, waits=HASTY)
    artifacts = Table("artifact", "key", "size", "state", title="Artifacts", title_justify="left", box=None)
    unseen, activations, named, to_build = "", "", names(plan), 0
    for artifact in plan.artifacts():
        stored = None
        nameless = bool(plan.facts.unseen)  # keys depend on data not seen
        try:
            stored = None if unseen or nameless else store.size(artifact.kind, artifact.key)
        except Exception as error:  # whatever a store raises: a plan says what it could not see, and continues
            unseen = f"{store.url} could not be read: {str(error) or type(error).__name__}"
        size = artifact.bytes if stored is None else stored
        to_build += artifact.bytes or 0 if stored is None else 0
        shards = f", in {len(artifact.shards)} shards" if artifact.shards else ""
        state = "unknown" if unseen or nameless else f"will be built{shards}" if stored is None else "exists"
        key = "unknown" if nameless else artifact.key[:12]
        artifacts.add_row(named[artifact.key], key, "not known" if size is None else _bytes(size), state)
        if artifact.kind == "activations":
            activations = state.partition(",")[0]
    trials = Table("phase", "trials", "of them train", "steps each", title="Trials", title_justify="left", box=None)
    counts = plan.counts()
    for phase, trained in plan.trainings():
        if counts[phase]:
            trials.add_row(phase, str(counts[phase]), str(trained), str(plan.steps) if trained else "none")
        else:
            trials.add_row(phase, f"no {phase}", "", "")
    work = sum(trained for _, trained in plan.trainings()) * plan.steps
    values = Table("method", "type", "settings", title="Methods", title_justify="left", box=None)
    for label, method in plan.config.methods.items():
        settings = ", ".join(f"{name} {_shown(value)}" for name, value in method if name != "type")
        values.add_row(label, str(getattr(method, "type", "")), escape(settings))
    for table in (_data(plan), artifacts, values, trials):
        console.print(table, "")
    if words := searched_at_once(plan):
        console.out(words, highlight=False)
    told = () if plan.facts.unseen else (*doubts(plan), _noted_cue(plan, store))
    for words in filter(
        None, (*told, *plan.facts.notes, *(f"could not see {each}" for each in plan.facts.unseen), unseen)
    ):
        console.out(words, highlight=False)  # a folded path could not be copied
    seen = plan.facts.preprocessing
    model = ", ".join(f"{name} {value[:40]}" for name, value in plan.facts.model.items())
    console.print(
        f"Model: {model}; pictures of {plan.facts.image_size} pixels by {seen.resize_mode}, {seen.interpolation}, "
        f"mean {seen.mean}, deviation {seen.std}.",
        highlight=False,
        markup=False,
    )
    if not (unseen or plan.facts.unseen):
        left = free(store)
        there = "" if left is None else f"; {_bytes(left)} are free there"
        console.print(
            f"The storage will keep about {_bytes(to_build + weights_to_keep(plan))} more{there}.", highlight=False
        )
        if words := _opened_before(plan, store):
            console.out(words, highlight=False)
        console.out(_beside_what_exists(plan, store) or time_left(plan, store), highlight=False)
    for sentence in caps(plan, None if unseen else store):
        console.out(sentence, highlight=False)
    console.print(
        "Nothing was run. "
        f"At most {sum(counts.values())} trials, {work:,} optimizer steps of {plan.config.train.batch_size} images. "
        + _frozen_encoder(plan, activations),
        highlight=False,
    )


def _data(plan: Plan) -> Table:
    """The splits with their images and what each is for."""
    data, sizes = plan.config.data, plan.facts.sizes
    words = {"id": "tests what is like train", "ood": "tests a shift", "diagnostic": "is shown, in no mean"}
    tested = {name: words[role] for name, role in data.test_sets().items()}
    roles = {"train": "is trained on", "selection": "chooses values", **tested}
    about = data.about()
    title = escape(f"Data: {classes(plan)}")  # names may look like rich's markup
    table = Table("split", "images", "role", "what it is", title=title, title_justify="left", box=None)
    for name, role in roles.items():
        table.add_row(name, f"{sizes[name]:,}" if name in sizes else "not known", role, escape(about.get(name, "")))
    return table


def _frozen_encoder(plan: Plan, state: str) -> str:
    """Whether trainings run the frozen encoder; `state`: of its embeddings, "" where no method reads them."""
    asking = [label for label, method in plan.config.methods.items() if method.compares == "layers"]
    aside = f", save for {' and '.join(asking)}" if asking and plan.cached else ""
    pool = f" ({plan.pool} of {views(plan.config.views)} per image{' stored' if state == 'exists' else ''})"
    if not plan.cached:
        return f"Training runs the frozen encoder too{pool if state else ''}."
    if not state:
        return f"Training runs no frozen encoder{aside}."
    tense = {"exists": "are stored", "will be built": "will be stored before"}.get(state, "are stored by then")
    return f"Training runs no frozen encoder: its embeddings {tense}{pool}{aside}."


def _beside_what_exists(plan: Plan, store: Store) -> str:
    """What the file adds to a sweep of its name, or why it cannot; "" where it is that sweep's own, or a new one's."""
    ledger, record = Ledger(store, plan.config.name), record_of(plan, None, look=False)
    with suppress(Exception):  # said already: the store could not be read
        if grows := in_words(plan, store, ledger, record):
            return f"{grows}\nGive --extend to add this."
        if why := refused(ledger, record):
            return f"{why}\n{time_left(plan, store)}"
    return ""


def _noted_cue(plan: Plan, store: Store) -> str:
    """What an earlier run of this sweep noted of a cue in its training images; "" for nothing or none."""
    with suppress(Exception):  # said already: the store could not be read
        if (found := Ledger(store, plan.config.name).cue()) and found.likely:
            return f"data: {found}"
    return ""


def _opened_before(plan: Plan, store: Store) -> str:
    """Which sweeps opened the test sets with the seeds of this plan, in a sentence; "" for none."""
    with suppress(Exception):  # said already: the store could not be read
        if words := earlier.in_words(earlier.opened_before(store, record_of(plan, None, look=False))):
            return f"{words[0].upper()}{words[1:]}; confirm: {{draw: {plan.config.confirm.draw + 1}}} gives others."
    return ""


def _shown(value: object) -> str:
    from saeft_ray.settings import Choices, Range

    if isinstance(value, Range):
        return f"searched in {value.low:g} … {value.high:g}{' (log)' if value.log else ''}"
    if isinstance(value, Choices):
        return "chosen among " + " ".join(f"{choice:g}" for choice in value.choices)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.1f} TB"
