"""YAML as people write it: the loader of sweep files."""

import math
import re
from typing import Any, NoReturn

import yaml

LARGEST = 100_000  # values in a file, its aliases written out
LONGEST = 300  # characters of a whole number
_TAGS = "tag:yaml.org,2002:"
BOOL, INT, FLOAT, TIME, TEXT, MERGE = (
    f"{_TAGS}{kind}" for kind in ("bool", "int", "float", "timestamp", "str", "merge")
)


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
            _refuse(f"with its aliases written out it has more than {LARGEST:,} values", node)
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode):
            meant = {TEXT, self.resolve(yaml.ScalarNode, node.value, (True, False))}
        else:
            meant = {self.resolve(type(node), None, True)}
        if node.tag not in meant:
            found = f"{node.value[:20]!r}" if isinstance(node, yaml.ScalarNode) else f"this {node.id}"
            tag = node.tag.replace(_TAGS, "!!")
            _refuse(f"{found} has the tag {tag}, by which it would be read otherwise; remove the tag", node)
        if node.tag == INT and len(node.value) > LONGEST:
            _refuse(f"a number of {len(node.value):,} digits; at most {LONGEST}", node)
        if isinstance(node, yaml.ScalarNode) and re.search("[\ud800-\udfff]", node.value):
            _refuse("this text holds half of a character, which cannot be written anywhere", node)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[Any] = set()
        for given, _ in node.value:
            if not isinstance(given, yaml.ScalarNode):
                continue
            # Keys taken over by `<<: *other` are not among these, and may be given anew.
            key = "<<" if given.tag == MERGE else self.construct_object(given)
            if key in seen:
                _refuse(f"the key {key!r} is given twice", given)
            seen.add(key)
        return node


def _refuse(words: str, node: Any) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, words, node.start_mark)


def _size(node: Any, known: dict[int, float]) -> float:
    """Values below `node`, each alias counted as the values that it repeats; infinite for one that contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if isinstance(node.value, list) else []
        flat = [part for item in parts for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in flat)
    return known[id(node)]


Loader.add_implicit_resolver(BOOL, re.compile(r"^(true|false)$"), list("tf"))
Loader.add_implicit_resolver(INT, re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    FLOAT,
    re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf)$|^\.(nan|NaN)$"),
    list("-+.0123456789"),
)
