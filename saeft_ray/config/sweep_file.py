"""A sweep file, read: its config, or every mistake in it at once (docs/architecture.md 3.8)."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from saeft_ray.config.choose import Rule, arm_of
from saeft_ray.config.known import allowed, unknown
from saeft_ray.config.registry import Registry
from saeft_ray.config.schema import DATASETS, METHODS, ReportSettings, SweepConfig
from saeft_ray.config.yaml_loader import Loader
from saeft_ray.errors import UserError
from saeft_ray.methods import Method
from saeft_ray.settings import Compute, DictionarySettings, Train
from saeft_ray.spelling import minus
from saeft_ray.storage.fingerprint import canonical
from saeft_ray.storage.location import Location

_log = logging.getLogger(__name__)
Mistake = tuple[str, str]  # (dotted place, what was found and what is allowed)
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WANTS_NUMBER = re.compile("number|integer")
_NAMES = "80 letters, digits, _ and - at most, beginning with a letter or digit"
_LABELS = "40 lower-case letters, digits and _ at most, beginning with a letter"


def load(path: str) -> SweepConfig:
    """The sweep file at `path`. Raises UserError that lists every mistake, each with its dotted place."""
    for fault in (*METHODS.faults, *DATASETS.faults):
        _log.warning("%s", fault)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: does not exist; give the path of a sweep file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a text file ({error})") from error
    return parse(text, path)


def parse(text: str, source: str = "sweep file") -> SweepConfig:
    """`load` for a text at hand; `source` names it in messages."""
    try:
        raw = yaml.load(text, Loader)  # noqa: S506 - Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{source}: {place}{error.problem or error.context}; this is not valid YAML") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # of the last two: \U99999999 is no character
        raise UserError(f"{source}: {' '.join(str(error).split())}; this is not valid YAML") from error
    return validated(raw, source)


def validated(raw: Any, source: str = "sweep file") -> SweepConfig:
    """`load` for what a sweep file would hold: a dict of sections."""
    if raw is None:
        raise UserError(f"{source}: is empty; a sweep file is a map of sections")
    if not isinstance(raw, dict):
        raise UserError(f"{source}: a sweep file is a map of sections; found {type(raw).__name__}")
    config, mistakes = None, [*_credentials(raw)]
    if mistakes:
        raise UserError(f"{source}: " + "; ".join(f"{place}: {words}" for place, words in mistakes))
    try:
        config = SweepConfig.model_validate(raw)
        sections = {name: getattr(config, name) for name in SweepConfig.model_fields}
    except ValidationError as error:
        mistakes = [_mistake(detail, raw) for detail in error.errors(include_url=False)]
        sections = _valid_sections(raw)
    mistakes += [*_contradictions(sections)]
    if mistakes or config is None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = "".join(f"\n  {place}: {words}" if place else f"\n  {words}" for place, words in mistakes)
        raise UserError(f"{source}: {count}{lines}")
    return config


def _credentials(value: Any, place: str = "") -> Iterator[Mistake]:
    """URLs with a user's name or password in them; reported first, and without repeating them."""
    if isinstance(value, str) and re.search(r"://[^/\s]*@|[?&](X-Amz-Signature|Signature|token)=", value):
        yield (
            place,
            "a URL with credentials in it; they would stand in records and logs, so give them in the environment",
        )
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _credentials(part, f"{place}.{key}" if place else str(key))


def _contradictions(sections: Mapping[str, Any]) -> Iterator[Mistake]:
    """Mistakes between sections that are each valid; sections with mistakes of their own are not in `sections`."""
    methods: Mapping[str, Method] | None = sections.get("methods")
    train: Train | None = sections.get("train")
    compute: Compute | None = sections.get("compute")
    dictionary: DictionarySettings | None = sections.get("dictionary")
    report: ReportSettings | None = sections.get("report")
    for label, method in (methods or {}).items():
        for words in method.problems():
            yield f"methods.{label}", words
        if methods and method.base is not None:
            base = methods.get(method.base)
            if base is None or not base.trains:
                trained = [name for name, other in methods.items() if other.trains]
                yield (
                    f"methods.{label}.of",
                    f"{method.base!r} is not a method of this sweep that trains; {allowed(trained)}",
                )
    yield from _unchoosable(sections.get("choose", ()), methods)
    yield from _twice(methods or {})
    if storage := sections.get("storage"):
        try:
            Location(storage.url, storage.endpoint)
        except UserError as error:
            yield "storage", str(error)
    features, data = sections.get("features"), sections.get("data")
    curves, confirm = sections.get("curves"), sections.get("confirm")
    if curves and confirm and curves.seeds > confirm.max_seeds:
        yield (
            "curves.seeds",
            f"{curves.seeds} seeds are the first ones of confirm, which has {confirm.max_seeds}; give fewer, or "
            "confirm more",
        )
    if report:
        yield from report.problems(methods, data.test_sets() if data else None)
        if report.variance == "pooled" and confirm and confirm.until is not None:
            yield "report.variance", "pooled with confirm.seeds: {min, max}; looks know each method's own spread alone"
    if features:
        yield from features.problems(["selection", *data.test_sets()] if data else None)
    if train and compute and train.batch_size % compute.workers:
        yield (
            "compute.workers",
            f"{compute.workers} workers cannot share train.batch_size = {train.batch_size} evenly; give a divisor",
        )
    elif train and compute and (train.batch_size // compute.workers) % compute.accumulate:
        yield (
            "compute.accumulate",
            f"{train.batch_size // compute.workers} images per worker cannot be split into {compute.accumulate} equal "
            "micro-batches; give a divisor",
        )
    for label, method in (methods or {}).items():
        for name, parts in (("workers", compute.workers), ("accumulate", compute.accumulate)) if compute else ():
            if parts > 1 and not method.batch_mean:
                yield (
                    f"methods.{label}",
                    f"its loss is not a mean over the batch, so compute.{name} = {parts} would change it; give 1",
                )
        for setting, words in method.dictionary_problems(dictionary).items() if dictionary else ():
            yield f"methods.{label}.{setting}", words
    if dictionary and dictionary.k > dictionary.width:
        yield (
            "dictionary.k",
            f"k = {dictionary.k} atoms cannot be active among width = {dictionary.width}; give a smaller k",
        )
    if compute and compute.gpus and compute.gpus != int(compute.gpus) and compute.workers > 1:
        yield "compute.gpus", f"{compute.gpus:g}: several workers need whole GPUs each"


def _unchoosable(rules: Sequence[Rule], methods: Mapping[str, Method] | None) -> Iterator[Mistake]:
    """Why the rules of `choose` cannot choose among these methods."""
    names = [rule.rule for rule in rules]
    for name in {name for name in names if names.count(name) > 1}:
        yield "choose", f"{name} is given twice; give each rule once"
    types = {str(getattr(method, "type", "")) for method in (methods or {}).values()}
    if methods and "keep_gain" in names and not {"ft", "zero_shot"} <= types:
        yield "choose", "keep_gain keeps a part of ft's gain over zero_shot: add both to methods, or give another rule"
    for label, method in (methods or {}).items():
        for rule in rules[1:] if method.open_values() else ():
            if (arm := arm_of(label, rule)) in (methods or {}):
                yield f"methods.{arm}", f"is what the choice of {rule.rule} for {label} is called; give another label"


def _twice(methods: Mapping[str, Method]) -> Iterator[Mistake]:
    """Methods that differ from one before them in nothing that determines their training."""
    seen: dict[str, str] = {}
    for label, method in methods.items():
        first = seen.setdefault(canonical(method.determining_settings()), label)
        if first != label:
            yield (
                f"methods.{label}",
                f"is the same arm as {first!r} under another name: they differ in nothing that determines their "
                "training, so a difference between them would say nothing of either; change or remove one",
            )


def _valid_sections(raw: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, field in SweepConfig.model_fields.items():
        annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        try:
            if name in raw:
                found[name] = TypeAdapter(annotation).validate_python(raw[name])
            elif not field.is_required():
                found[name] = field.default
        except ValidationError:
            continue
    return found


def _mistake(detail: Any, raw: Mapping[str, Any]) -> Mistake:
    """One pydantic error in our words."""
    loc, kind, found = _dotted(detail["loc"], raw), detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return loc, unknown("key", str(detail["loc"][-1]), _keys(detail["loc"][:-1]))
    if kind in {"dict_type", "model_type", "model_attributes_type"}:
        return loc, f"found {_short(found)}; {_map_of(detail['loc'])}"
    if kind == "missing":
        return loc, "is missing; a sweep file must give it"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        known: Registry[Any] = METHODS if loc.startswith("methods") else DATASETS
        given = found.get("type") if isinstance(found, Mapping) else None
        if given is None:
            return loc, f"found {_short(found)}; give a map with a type, {allowed(known)}"
        words = unknown("type", str(given), known)
        return loc, f"{words}. {why}" if (why := known.missing(str(given))) else words
    if kind == "string_pattern_mismatch":
        broken = _broken(str(found), *((80, True) if loc == "name" else (40, False)))
        return (
            loc,
            f"found {_short(found)}, which {broken}; allowed: {_NAMES if loc == 'name' else _LABELS} (names become "
            "folders)",
        )
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return loc, message
    hint = _why_not_a_number(found) if isinstance(found, str) and _WANTS_NUMBER.search(message) else ""
    return loc, f"found {_short(found)}; {message[:1].lower()}{message[1:]}{hint}"


def _map_of(loc: Sequence[str | int]) -> str:
    """What to write for a section or a map of methods that is neither."""
    if loc == ("methods",):
        return "give a map of methods, such as ft: {} on a line of its own"
    keys = _keys(loc)
    return "give a map" + (f" with any of the keys {', '.join(keys)}" if keys else "")


def _broken(name: str, longest: int, capitals: bool) -> str:
    """The rules of `_NAMES` (with `capitals`) or `_LABELS` that `name` breaks, and only these."""
    letters = "A-Za-z" if capitals else "a-z"
    bad = sorted(set(re.sub(f"[{letters}0-9_{'-' if capitals else ''}]", "", name)))
    rules = (
        (len(name) > longest, f"has {len(name)} characters"),
        (not name, "is empty"),
        (bool(bad), f"contains {', '.join(map(repr, bad))}"),
        (
            bool(name) and name[0] not in bad and not re.match(f"[{letters}{'0-9' if capitals else ''}]", name),
            f"begins with {name[:1]!r}",
        ),
    )
    return " and ".join(words for broken, words in rules if broken)


def _why_not_a_number(text: str) -> str:
    """Why a text that stands where a number is wanted is not one, as far as can be told."""
    plain = minus(text).strip()
    if _NUMBER.fullmatch(plain.removesuffix("%").rstrip()) and plain.endswith("%"):
        return f"; it is a percentage: write it without the sign, divided by 100 ({float(plain[:-1]) / 100:.12g})"
    if not _NUMBER.fullmatch(plain):
        comma = _NUMBER.fullmatch(plain.replace(",", "."))
        return f"; it has a decimal comma: write {plain.replace(',', '.')}" if comma else "; it is text, not a number"
    if plain != text.strip():
        return f"; its minus is a typographic one, which makes it text: write {plain}"
    return "; it is text: remove the quotes"


def _dotted(loc: Sequence[str | int], raw: Any) -> str:
    """`loc` without pydantic's union tags: parts that are not in the file, save the last."""
    parts, here = [], raw
    for index, part in enumerate(loc):
        if part == "[key]":
            continue
        inside = isinstance(here, Mapping) and part in here
        if inside or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            here = here[part]
            parts.append(str(part))
        elif (
            index == len(loc) - 1
            and part not in {"number", "range", "choices", "list", "file"} | METHODS.keys() | DATASETS.keys()
        ):
            parts.append(str(part))
    return ".".join(parts)


def _keys(loc: Sequence[str | int]) -> list[str]:
    """The keys that the section at `loc` may have."""
    annotation: Any = SweepConfig
    for part in loc:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and part in annotation.model_fields:
            annotation = annotation.model_fields[str(part)].annotation
        elif part in METHODS and loc[0] == "methods":
            annotation = METHODS[str(part)]
        elif part in DATASETS and loc[0] == "data":
            annotation = DATASETS[str(part)]
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    fields = annotation.model_fields.items() if is_section else ()
    return [field.alias or name for name, field in fields if name != "type"]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
