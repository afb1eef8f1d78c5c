"""YAML as people write it: the loader of sweep files."""

import math
import re
from typing import Any

import yaml

LARGEST = 100_000  # values in a file, its aliases written out


BOOL, INT, FLOAT, TIME = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp"))


def _without(*tags: str) -> dict[Any, Any]:
    """YAML 1.1's rules for what plain words mean, without those of `tags`."""
    rules = yaml.SafeLoader.yaml_implicit_resolvers
    return {first: [rule for rule in given if rule[0] not in tags] for first, given in rules.items()}


class Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML whose words stay words: `1e-3` is a number; `no`, `010`, `1:30` and `2026-01-01` are text, which YAML 1.1
    reads as false, 8, 90 and a date; a key given twice is an error."""

    yaml_implicit_resolvers = _without(BOOL, INT, FLOAT, TIME)

    def get_single_node(self) -> Any:
        try:
            node = super().get_single_node()
        except RecursionError:
            raise yaml.constructor.ConstructorError(None, None, "it is nested too deeply") from None
        if node is not None and _size(node, {}) > LARGEST:
            raise yaml.constructor.ConstructorError(
                None, None, f"with its aliases written out it has more than {LARGEST:,} values", node.start_mark
            )
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *other`, whose keys may be given anew
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


def _size(node: Any, known: dict[int, float]) -> float:
    """Values below `node`, each alias counted as the values that it repeats; infinite for one that contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if isinstance(node.value, list) else []
        flat = [part for item in parts for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in flat)
    return known[id(node)]


Loader.add_implicit_resolver(BOOL, re.compile(r"^(true|false)$"), list("tf"))
Loader.add_implicit_resolver(INT, re.compile(r"^[-+]?(0|[1-9]\d*)$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    FLOAT,
    re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf)$|^\.(nan|NaN)$"),
    list("-+.0123456789"),
)
