"""How a sweep was made, from its record: methods, training, data and dictionary, so that a reader can repeat it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saeft_ray.report.content import Fact, Recipe
from saeft_ray.report.method_facts import MethodFacts
from saeft_ray.report.numbers import count
from saeft_ray.report.scores import config
from saeft_ray.report.searched import SearchSummary

_SHOWN = 8  # class names and templates; the sweep's record has all of them
Facts = Iterator[tuple[str, object]]


def recipe(
    record: Mapping[str, Any], facts: Mapping[str, MethodFacts], tuned: Sequence[SearchSummary]
) -> Recipe | None:
    """The recipe of the sweep with `record`, of which the searches `tuned` took place; None where the record has none,
    as that of a table has not."""
    settings = config(record)
    if not settings.get("train"):
        return None
    return Recipe(
        methods=_shown(_methods(record)),
        training=_shown(_training(record, tuned)),
        data=_shown(_data(record)),
        dictionary=_shown(_dictionary(record, facts)),
    )


def _shown(facts: Facts) -> tuple[Fact, ...]:
    return tuple(Fact(name=name, value=str(value)) for name, value in facts if value not in (None, ""))


def _methods(record: Mapping[str, Any]) -> Facts:
    declared = record.get("methods") or {}
    for name, settings in (config(record).get("methods") or {}).items():
        facts = declared.get(name) or {}
        kind = (settings or {}).get("type", name)
        reads = f" It reads the {facts['dictionary']} dictionary." if facts.get("dictionary") else ""
        of = f" It is made of {facts['derived_from']}." if facts.get("derived_from") else ""
        about = facts.get("about") or f"A method of type {kind}."
        yield name, f"{about}{'' if kind == name else f' (type {kind})'}{reads}{of}"


def _training(record: Mapping[str, Any], tuned: Sequence[SearchSummary]) -> Facts:
    settings, model = config(record), config(record).get("model") or {}
    train = settings["train"]
    yield "model", f"{model.get('arch')}, weights {model.get('pretrained')}" if model else None
    yield "image size, embedding", _sizes_of(record)
    yield "epochs, batch", f"{count(train['epochs'], 'epoch')} in batches of {train.get('batch_size')} images"
    yield "optimizer", f"AdamW, weight decay {train.get('weight_decay')}, gradients clipped at {train.get('clip_norm')}"
    warmup = 100 * float(train.get("warmup") or 0)
    yield "learning rate", f"{train.get('lr')}, reached over the first {warmup:g} % of all steps, then a cosine to 0"
    yield "label smoothing", train.get("label_smoothing")
    yield "precision", train.get("precision") or "fp32"
    pool = train.get("views") or train.get("epochs")
    views = ((record.get("data") or {}).get("about") or {}).get("views", "")
    yield "augmentation", f"{count(pool, 'view')} of each image, one an epoch. {views}".strip() if pool else None
    search, rerank, confirm = (settings.get(phase) or {} for phase in ("search", "rerank", "confirm"))
    if "trials" in search and any(s.search.trials for s in tuned):
        repeats = f", repeated {search['repeats']} times" if search.get("repeats", 1) > 1 else ""
        yield "search", f"{count(search['trials'], 'trial')} for each method with open values{repeats}"
    if "seeds" in rerank and any(s.rerank.trials for s in tuned):
        yield "rerank", f"the best {rerank.get('top')} with {count(rerank['seeds'], 'seed')} each"
    dealt = ", dealt over tied configurations" if confirm.get("choices") == "tied" else ""
    yield "confirm", f"seeds: {confirm.get('seeds')}{dealt}" if confirm else None
    yield "seed of the sweep", settings.get("seed")


def _sizes_of(record: Mapping[str, Any]) -> str:
    data = record.get("data") or {}
    size, width = data.get("image_size"), data.get("width")
    return f"{size} × {size} pixels, {width} numbers" if size and width else ""


def _data(record: Mapping[str, Any]) -> Facts:
    data, settings = record.get("data") or {}, config(record).get("data") or {}
    about, sizes, roles = (data.get(key) or {} for key in ("about", "sizes", "roles"))
    yield "type", settings.get("type")
    for name in dict.fromkeys(("train", "selection", *roles, *sizes)):
        role = {"id": "ID: ", "ood": "OOD: ", "diagnostic": "Diagnostic: "}.get(roles.get(name, ""), "")
        size = f"{sizes[name]:,} images. " if name in sizes else ""
        yield name, f"{role}{size}{about.get(name, '')}".strip()
    yield "classes", _some(data.get("class_names") or (), data.get("classes"))
    yield "templates", _some(data.get("templates") or (), None)


def _some(names: "list[str] | tuple[()]", n: int | None) -> str:
    """How many there are, and the first of them."""
    if not names:
        return "" if n is None else str(n)
    more = ", …" if len(names) > _SHOWN else ""
    return f"{len(names)}: {', '.join(names[:_SHOWN])}{more}"


def _dictionary(record: Mapping[str, Any], facts: Mapping[str, MethodFacts]) -> Facts:
    settings = config(record).get("dictionary") or {}
    declared = record.get("methods") or {}
    kinds = sorted({str(f.get("dictionary")) for f in declared.values() if f.get("dictionary")})
    kinds = kinds or sorted({fact.dictionary for fact in facts.values() if fact.dictionary})
    if not settings or not kinds:
        return
    yield "kinds", ", ".join(kinds)
    yield (
        "size",
        f"{settings.get('width')} atoms, {settings.get('k')} active in each image ({settings.get('activation')})",
    )
    yield "reads", "embeddings at length 1" if settings.get("input") == "unit" else "embeddings as they come"
    yield "drawn or trained", f"{settings.get('seeds') or 1} of each kind"
    if source := settings.get("from"):
        yield "trained one", f"not trained here, but taken from {source} ({record.get('imported')})"
        return
    epochs = settings.get("epochs")
    length = f"{epochs} epochs" if epochs else f"{settings.get('steps')} steps"
    rate = f"learning rate {settings.get('lr')}, recipe {settings.get('recipe')}"
    yield "training", f"{length} in batches of {settings.get('batch_size')} embeddings, {rate}"
    yield "trained on", _embeddings(record)


def _embeddings(record: Mapping[str, Any]) -> str:
    train = config(record)["train"]
    n = ((record.get("data") or {}).get("sizes") or {}).get("train")
    images = f"the {n:,} training images" if n else "the training images"
    views = train.get("views") or train.get("epochs")
    return f"the frozen model's embeddings of {images}, {count(views, 'view')} of each"
