"""What the confirm phase tests and how, fixed before its first trial: a function of the sweep's record alone."""

import math
from collections.abc import Mapping
from typing import Any

from saeft_ray.config.choose import Rule
from saeft_ray.records.amendments import later
from saeft_ray.stats import Design

_BEST = Rule().model_dump(mode="json")
FIXED = "fixed"
"""The engine's name where every method gets the same number of seeds."""


def preregistration(record: Mapping[str, Any]) -> dict[str, Any]:
    """The registration that the record `sweep.json` implies (docs/statistics.md 2.1), as JSON.

    `families` are lists of [method, against]; each is tested at its own error level `alpha`.
    """
    config, roles = record["config"], record["data"]["roles"]
    rules, confirm = config["report"], config["confirm"]
    until = confirm["seeds"] if isinstance(confirm["seeds"], Mapping) else None
    ood = [name for name, role in roles.items() if role == "ood"]
    names = sorted([*config["methods"], *record.get("arms", {})])
    families = {"primary": [[name, rules["baseline"]] for name in names if name != rules["baseline"]]}
    if rules.get("compare"):
        families["controls"] = [list(pair) for pair in rules["compare"]]
    looked_at = {"features": _features(record["features"], rules["baseline"])} if "features" in record else {}
    chosen = {"choose": choose} if (choose := config.get("choose", [_BEST])) != [_BEST] else {}
    opted = {"variance": rules["variance"]} if rules.get("variance", "own") != "own" else {}
    if confirm.get("choices", "chosen") != "chosen":
        opted["choices"] = confirm["choices"]
    if config.get("search", {}).get("repeats", 1) > 1:
        opted["repeats"] = config["search"]["repeats"]
    return {
        **opted,
        **chosen,
        **({"curves": config["curves"]} if config.get("curves") else {}),
        **looked_at,
        "endpoint": "OOD" if ood else "ID",
        "datasets": ood or [name for name, role in roles.items() if role == "id"],
        "weights": "equal",
        "families": families,
        "alpha": rules["alpha"],
        "margin": rules["margin"],
        "engine": confirm["engine"] if until else FIXED,
        "looks": list(range(until["min"], until["max"] + 1)) if until else [confirm["seeds"]],
        "spending": "alpha * n / N" if until else "all at the only look",
        "overrun": confirm.get("overrun", 0),
        "seeds": list(record["confirm_seeds"]),
        "failures": "a run without a finite accuracy in [0, 1] on every set of the endpoint; never replaced",
    }


def added(record: Mapping[str, Any], registered: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each amendment added to the `registered` analysis, as a registration of its own: one family of the new
    pairs, and the `sets` that are new. All that comes later shares one error level: the first addition is tested at
    half of it, the next at a quarter, and so on, so that whoever adds until something is significant errs no more often
    than whoever registers one family (docs/statistics.md 2.3).
    """
    found, after = [], later(record)
    for number, amendment in enumerate(after, 1):
        before = preregistration({**record, **amendment["before"]})
        now = preregistration({**record, **(after[number]["before"] if number < len(after) else {})})
        pairs = [pair for family, pairs in now["families"].items() for pair in pairs if not _has(before, family, pair)]
        roles = (after[number]["before"] if number < len(after) else record)["data"]["roles"]
        found.append(
            {
                **now,
                "datasets": registered["datasets"],
                "endpoint": registered["endpoint"],
                "families": {f"added-{number}": pairs},
                "alpha": registered["alpha"] / 2**number,
                "sets": [
                    n for n in roles if n not in amendment["before"]["data"]["roles"] and roles[n] != "diagnostic"
                ],
                "time": amendment["time"],
                "seen": amendment["seen"],
            }
        )
    return found


def extended(record: Mapping[str, Any], registered: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the seeds are read that were added to the `registered` ones; None without any.

    The registered tests have spent their error. What they left undecided is tested with more seeds at a tenth of it, by
    the engine that holds at any number of seeds, however often seeds are added: with the registered tests that is an
    error of 1.1 α in all (docs/statistics.md 2.3).
    """
    seeds, last = record["confirm_seeds"], registered["looks"][-1]
    if len(seeds) <= last:
        return None
    return {
        **registered,
        "engine": "anytime",
        "looks": list(range(last + 1, len(seeds) + 1)),
        "seeds": list(seeds),
        "alpha": registered["alpha"] / 10,
        "families": {f"{family}-extended": pairs for family, pairs in registered["families"].items()},
        "sizes": {f"{family}-extended": len(pairs) for family, pairs in registered["families"].items()},
    }


def _has(registered: Mapping[str, Any], family: str, pair: Any) -> bool:
    return list(pair) in [list(each) for each in registered["families"].get(family, [])]


def _features(settings: Mapping[str, Any], baseline: str) -> dict[str, Any]:
    """How changes of features are tested; a family of its own, which decides about no method."""
    return {
        "alpha": settings["alpha"],
        "least": settings["least"],
        "family": "features live in the frozen model on ≥ 0.2 % of the evaluated images",
        "tests": "moderated t, Benjamini-Hochberg",
        "against": ["frozen", baseline],
    }


def designs(registered: Mapping[str, Any]) -> dict[str, Design]:
    """The rule of each family; none where the number of seeds is fixed. `sizes` may say of how many hypotheses a family
    is, where only some of them are left."""
    if registered["engine"] == FIXED:
        return {}
    return {
        family: Design(
            first=registered["looks"][0],
            last=registered["looks"][-1],
            size=registered.get("sizes", {}).get(family, len(pairs)),
            engine=registered["engine"],
            alpha=registered["alpha"],
            margin=registered["margin"],
            seed=registered["seeds"][0],
        )
        for family, pairs in registered["families"].items()
    }


def name_of(method: str, against: str) -> str:
    """The name of a hypothesis in the look log."""
    return f"{method} against {against}"


def same_look(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records describe the same look: numbers agree to nine digits, everything else exactly, and the order
    of its hypotheses does not count."""
    return _same(*({**look, "steps": sorted(look["steps"], key=lambda step: step["name"])} for look in (one, other)))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return bool(a == b)
