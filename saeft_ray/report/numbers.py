"""Numbers, percentages, p values and lists as a report writes them."""

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

MINUS = "−"


MISSING = "–"
_EXACT = 1e15  # a float of this size has no further digits to round


def number(value: float, decimals: int = 2, signed: bool = False) -> str:
    """A number with a true minus sign, and a plus sign where `signed`; never a negative zero. A half is rounded up."""
    text = f"{abs(value):.{decimals}f}"
    if abs(value) < _EXACT:
        # The sums of seeds are off by less than a billionth, which must not decide how a half is rounded.
        text = str(Decimal(f"{abs(value):.9f}").quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))
    if not any(c in "123456789" for c in text):
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction as a number of percent, without the sign."""
    return MISSING if fraction is None else number(100 * fraction, decimals)


def pp(fraction: float, signed: bool = False) -> str:
    """A difference of fractions as a number of percentage points."""
    return number(100 * fraction, 2, signed)


def p_value(p: float | None) -> str:
    """`= .007`, `< .001` or, where there is no test, a dash."""
    if p is None:
        return MISSING
    if p < 0.0005:
        return "< .001"
    if p > 0.9995:
        return "= 1"
    # Next to the usual α a third decimal could contradict the verdict.
    return f"= {p:.{4 if 0.0495 <= p < 0.0505 else 3}f}".replace("0.", ".", 1)


def count(n: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def where(endpoint: str, datasets: tuple[str, ...]) -> str:
    """The endpoint as words for a sentence: `the mean of 7 OOD sets`, or the one test set's name."""
    return datasets[0] if len(datasets) == 1 else f"the mean of {len(datasets)} {endpoint} sets"


def seeds_in_words(seeds: Iterable[int]) -> str:
    """`seed 3`, `seeds 0 to 4`, `seeds 1, 5 and 9`, `12 seeds between 3 and 900`."""
    order = sorted(seeds)
    if len(order) == 1:
        return f"seed {order[0]}"
    if order[-1] - order[0] == len(order) - 1:
        return f"seeds {order[0]} to {order[-1]}"
    return f"seeds {in_list(order)}" if len(order) <= 6 else f"{len(order)} seeds between {order[0]} and {order[-1]}"


def in_list(names: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *head, last = [str(name) for name in names]
    return f"{', '.join(head)} and {last}" if head else last
