"""Facts that each method declared in the sweep's record, or that follow from its settings in older records."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from saeft_ray.report.scores import config

# For records without facts: those from before there were any, and tables that were not made here.
_FAMILIES = {"zero_shot": "frozen", "wise_ft": "interpolation"}
_READS = dict.fromkeys(("sae_ft", "sae_l1", "sae_kl", "sae_w"), "trained") | {"random_dictionary": "random"}
_CONTROL_OF = {"random_dictionary": "sae_ft"}


class MethodFacts(NamedTuple):
    """Facts that a report needs about a method."""

    type: str
    family: str  # "frozen" and "interpolation" are drawn as the ends and the middle of a curve
    penalty: str  # the type whose penalty it has: its own, or that of the method that it controls
    dictionary: str | None = None  # the kind that its penalty reads
    derived_from: str | None = None  # the label of the method whose weights it is made of


def facts_of(name: str, record: Mapping[str, Any]) -> MethodFacts:
    """The facts of the method with the label `name`, whether or not `record` knows it."""
    settings = (config(record).get("methods") or {}).get(name) or {}
    kind = str(settings.get("type") or name)
    known = record.get("methods") or {}
    declared = known.get(name) if isinstance(known, Mapping) else None
    if declared:
        return MethodFacts(
            kind, declared["family"], declared["penalty"], declared["dictionary"], declared["derived_from"]
        )
    return MethodFacts(
        type=kind,
        family=_FAMILIES.get(kind, ""),
        penalty=_CONTROL_OF.get(kind, kind),
        dictionary=settings.get("dictionary") or _READS[kind] if kind in _READS else None,
        derived_from=str(settings.get("of") or "ft") if kind == "wise_ft" else None,
    )
