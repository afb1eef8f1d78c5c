"""Sweep files: shipped ones with lines, values and bytes that are not theirs."""

import random
from pathlib import Path

from benchmarks.fuzz.input import Input
from saeft_ray.config.sweep_file import parse

_FILES = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))
_VALUES = (
    "", "~", "0", "-1", "1e400", "-.inf", ".nan", "010", "0x1F", "1:30", "1_000", "2026-01-01", "true", "yes", "[]",
    "{}", "[1, 2]", "{a: 1}", "'5'", '"\\x00"', "é", "\U0001f600", "!!python/object:os.system", "!!binary aGk=",
    "&a [*a]", "<<: 3", "? x", "- x", "0.3%", "1e\N{MINUS SIGN}3", "$HOME/x", "s3:/b", "s3://", "x" * 300, "9" * 20,
    "1.", ".5", "+3", "null", "off", "{low: 1}", "{low: 3, high: 1}", "{choices: []}", "{from: /nowhere}", "|", ">",
    "*x",
)  # fmt: skip


def make(draw: random.Random, folder: Path) -> Input:
    lines = draw.choice(_FILES).read_text(encoding="utf-8").splitlines()
    done = []
    for _ in range(draw.randint(1, 3)):
        change = draw.choice((_value, _value, _drop, _twice, _indent, _bytes, _key, _swap))
        done.append(change.__name__.strip("_"))
        change(draw, lines)
    text = "\n".join(lines)
    return Input(" ".join(done), lambda: parse(text, "fuzzed.yaml").name)


def _at(draw: random.Random, lines: list[str]) -> int:
    return draw.randrange(len(lines)) if lines else lines.append("") or 0  # type: ignore[func-returns-value]


def _value(draw: random.Random, lines: list[str]) -> None:
    i = _at(draw, lines)
    lines[i] = f"{lines[i].split(':')[0]}: {draw.choice(_VALUES)}"


def _key(draw: random.Random, lines: list[str]) -> None:
    i = _at(draw, lines)
    key, colon, rest = lines[i].partition(":")
    j = draw.randrange(len(key) + 1)
    lines[i] = key[:j] + draw.choice(("", "x", " ", "_", "É", "\t")) + key[j + 1 :] + colon + rest


def _drop(draw: random.Random, lines: list[str]) -> None:
    del lines[_at(draw, lines)]


def _twice(draw: random.Random, lines: list[str]) -> None:
    lines.insert(_at(draw, lines), lines[_at(draw, lines)])


def _swap(draw: random.Random, lines: list[str]) -> None:
    i, j = _at(draw, lines), _at(draw, lines)
    lines[i], lines[j] = lines[j], lines[i]


def _indent(draw: random.Random, lines: list[str]) -> None:
    i = _at(draw, lines)
    lines[i] = draw.choice(("  ", "\t", " ")) + lines[i] if draw.random() < 0.5 else lines[i].strip()


def _bytes(draw: random.Random, lines: list[str]) -> None:
    i = _at(draw, lines)
    j = draw.randrange(len(lines[i]) + 1)
    lines[i] = lines[i][:j] + chr(draw.choice((0, 9, 34, 39, 58, 123, 0x85, 0xFEFF, 0x2028, 0xD7FF))) + lines[i][j:]
