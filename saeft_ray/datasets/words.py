"""The words of classes: which of them the zero-shot head cannot tell apart."""

import unicodedata
from collections.abc import Sequence


def alike(names: Sequence[str]) -> list[list[int]]:
    """Groups of positions whose `names` are the same word: without regard to capitals, underscores and spaces.

    >>> alike(["a b", "Cat", "a_b", "dog", "cat "])
    [[0, 2], [1, 4]]
    """
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        plain = unicodedata.normalize("NFKC", name).casefold().replace("_", " ")
        groups.setdefault(" ".join(plain.split()), []).append(i)
    return [group for group in groups.values() if len(group) > 1]
