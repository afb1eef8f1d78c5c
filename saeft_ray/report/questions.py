"""Which pairs of methods a report asks about by itself: a trained dictionary against its controls."""

import math
from collections.abc import Mapping
from typing import Any

from saeft_ray.report.method_facts import MethodFacts


def questions(facts: Mapping[str, MethodFacts], declared: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """(trained, control) → the control's dictionary, for methods that pay by the same terms and differ in it alone."""
    forms = {name: (fact.penalty, *_form(declared.get(name) or {})) for name, fact in facts.items()}
    return {
        (a, b): other.dictionary
        for a, fact in facts.items()
        for b, other in facts.items()
        if fact.dictionary == "trained" and other.dictionary not in (None, "trained") and forms[a] == forms[b]
        if _proportional(declared.get(a) or {}, declared.get(b) or {})
    }


def _proportional(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether the terms of both weigh alike, as far as the sweep file says it: a search finds weights of its own."""
    weights = [{key: value for key, value in each.items() if key.startswith("lambda_") and value} for each in (a, b)]
    if any(isinstance(value, Mapping) for each in weights for value in each.values()):
        return True
    shares = [{key: value / sum(each.values()) for key, value in each.items()} for each in weights]
    return all(math.isclose(share, shares[1][key], rel_tol=1e-6) for key, share in shares[0].items())


def _form(settings: Mapping[str, Any]) -> tuple[set[str], dict[str, Any]]:
    """The terms that a penalty has, and how it takes them."""
    terms = {key for key, value in settings.items() if key.startswith("lambda_") and value}
    aside = {"type", "dictionary", "preset"}
    return terms, {k: v for k, v in settings.items() if not k.startswith("lambda_") and k not in aside}
