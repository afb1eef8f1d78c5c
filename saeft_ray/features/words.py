"""Banks of words that features may be named by, and their embeddings through the model's own text tower.

Shapes: W words, C classes, P templates, d embedding width.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from saeft_ray.errors import UserError
from saeft_ray.features.activity import Floats, unit
from saeft_ray.model.encoder import ClipModel

TEMPLATES = ("a {}", "the {}", "a photo of a {}")
BATCH = 256  # texts that go through the text tower at once
Tokenize = Callable[[Sequence[str]], torch.Tensor]  # W texts to (W, tokens)


@dataclass(frozen=True, kw_only=True)
class Word:
    """`label` is how the user wrote it, `text` what the model reads; `label_of` is the class that it names, if one."""

    label: str
    text: str
    label_of: int | None = None


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Words with their centred unit embeddings (W, d), and what must be said about how they were made."""

    words: tuple[Word, ...]
    embeddings: Floats
    said: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """What each word is called in the report."""
        return tuple(word.label for word in self.words)


def bank(
    model: ClipModel, classes: Sequence[str], more: Sequence[str] = (), templates: Sequence[str] = TEMPLATES
) -> Bank:
    """The bank of the class names and of `more` words, each in `templates`, centred over the bank: the centre holds
    what all texts share. Words that the model cannot read are left out, and `said` tells which."""
    words, said = gathered(classes, more)
    words, unread = readable(model.tokenize, words, templates)
    said += unread
    if len(words) < 2:
        said.append(f"the bank has {len(words)} words that the model reads; features get names from 2 on")
        return Bank(words=(), embeddings=np.zeros((0, 0), np.float32), said=tuple(said))
    total = sum(embed(model, [_filled(template, word.text) for word in words]) for template in templates)
    centred = np.asarray(total) / len(templates)
    centred = unit(centred - centred.mean(0)).astype(np.float32)
    return Bank(words=tuple(words), embeddings=centred, said=tuple(said))


def gathered(classes: Sequence[str], more: Sequence[str]) -> tuple[list[Word], list[str]]:
    """Class names and `more` words as they are read, without duplicates, and what was cut or left out."""
    short = [cleaned(name) for name in classes]
    # Two classes that only their brackets tell apart ("crane (bird)", "crane (machine)") keep what the brackets say.
    times = Counter(short)
    texts = [text if times[text] == 1 else _plain(name) for name, text in zip(classes, short, strict=True)]
    words: list[Word] = []
    said: list[str] = []
    seen: dict[str, str] = {}
    listed = [(name, text, number) for number, (name, text) in enumerate(zip(classes, texts, strict=True))]
    for name, text, number in [*listed, *((word, cleaned(word), None) for word in more)]:
        if not text:
            said.append(f"{name!r} holds no word and is left out")
            continue
        if text.casefold() in seen:
            said.append(f"{name!r} is the same word as {seen[text.casefold()]!r} and is left out")
            continue
        seen[text.casefold()] = name
        words.append(Word(label=" ".join(name.split()), text=text, label_of=number))
        if text != name.strip():
            said.append(f"{name!r} is read as {text!r}")
    return words, said


def cleaned(name: str) -> str:
    """A name without markup, brackets and all synonyms but the first: "<b>tench</b>, Tinca tinca" gives "tench"."""
    bare = re.sub(r"<[^>]*>", " ", name)
    bare = re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", bare)
    return " ".join(re.split(r"[,;，、；]", bare.strip(" ,;"))[0].split())


def _plain(name: str) -> str:
    """A name without markup and punctuation, but with all of its words."""
    return " ".join(re.sub(r"<[^>]*>|[()\[\],;]", " ", name).split())


@torch.no_grad()
def embed(model: ClipModel, texts: Sequence[str]) -> Floats:
    """(W, d) unit text embeddings."""
    parts = [model.clip.encode_text(model.tokenize(texts[i : i + BATCH])) for i in range(0, len(texts), BATCH)]
    return unit(np.concatenate([part.float().cpu().numpy() for part in parts]))


def _filled(template: str, text: str) -> str:
    return template.replace("{}", text)


def readable(
    tokenize: Tokenize, words: Sequence[Word], templates: Sequence[str] = TEMPLATES
) -> tuple[list[Word], list[str]]:
    """The words that the tokenizer knows, and what to say of those that it does not know or may cut."""
    kept, said = [], []
    longest = max(templates, key=len, default="{}")
    for start in range(0, len(words), BATCH):
        part = list(words[start : start + BATCH])
        try:
            tokens = [tokenize([_filled(longest, word.text) for word in part])]
        except UserError:
            part, tokens, unknown = _one_by_one(tokenize, part, longest)
            said += unknown
        for word, row in zip(part, torch.cat(tokens) if tokens else (), strict=True):
            kept.append(word)
            if bool((row != 0).all()):  # tokenizers pad with 0: a full row is as long as the model reads, or was cut
                said.append(f"{word.label!r} fills all {len(row)} tokens that the model reads, and may be cut")
    return kept, said


def _one_by_one(
    tokenize: Tokenize, words: Sequence[Word], template: str
) -> tuple[list[Word], list[torch.Tensor], list[str]]:
    kept, tokens, said = [], [], []
    for word in words:
        try:
            tokens.append(tokenize([_filled(template, word.text)]))
        except UserError as error:
            said.append(f"{word.label!r} is left out: {error}")
            continue
        kept.append(word)
    return kept, tokens, said
