"""The words of classes, which of them the zero-shot head cannot tell apart; and the names of test sets."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

_NAME = re.compile(r"\w([\w .,+()-]{0,78}[\w.+)])?", re.ASCII)
_TAKEN = {"ood", "ood mean"}  # what reports call the mean of the sets


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


def misnamed(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The names that cannot name a test set in tables, plots and folders, as a place shows them, each with why not.

    >>> dict(misnamed(["C-fog-3", "a|b", "OOD", "c-Fog-3"])).keys()
    dict_keys(["'a|b'", 'OOD', 'c-Fog-3'])
    """
    seen: dict[str, str] = {}
    for name in names:
        folded = name.casefold()
        if not _NAME.fullmatch(name):
            allowed = "letters without accents, digits, blanks within and _ - . , + ( ), at most 80 in all"
            yield repr(name), f"cannot name a test set; give {allowed}, a letter or digit first"
        elif folded in _TAKEN:
            yield name, "is what reports call the mean of the test sets; give the test set another name"
        elif folded in seen:
            yield name, f"differs from {seen[folded]!r} by nothing but case; give the test set another name"
        seen.setdefault(folded, name)
