"""A tokenizer for models whose language has few words: one word, one token."""

from collections.abc import Sequence
from pathlib import Path

import torch

from saeft_ray.errors import UserError

PAD, START, END = "<pad>", "<start>", "<end>"
_FEW = 100  # words that a message lists


class WordTokenizer:
    """Turns texts into (N, context_length) token ids, in the manner of open_clip's tokenizers.

    `vocabulary` opens with <pad> (id 0) and closes with <end>: open_clip's text pooling looks for the largest id.
    `place` says in error messages where the vocabulary is.
    """

    def __init__(self, vocabulary: Sequence[str], context_length: int, place: str = "its vocabulary") -> None:
        if len(set(vocabulary)) != len(vocabulary):
            raise UserError(f"{place} holds a word twice")
        if not vocabulary or vocabulary[0] != PAD or vocabulary[-1] != END or START not in vocabulary:
            raise UserError(f"{place} must open with {PAD}, close with {END} and hold {START}")
        self.vocabulary = tuple(vocabulary)
        self.context_length = context_length
        self.place = place
        self._ids = {word: number for number, word in enumerate(vocabulary)}

    @classmethod
    def read(cls, path: Path, context_length: int) -> "WordTokenizer":
        """A vocabulary file holds one word per line."""
        return cls(path.read_text(encoding="utf-8").split(), context_length, place=str(path))

    def __call__(self, texts: str | Sequence[str]) -> torch.Tensor:
        """Token ids (N, context_length), int64. Raises UserError for an unknown word or a text that is too long."""
        rows = [self._encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.context_length)

    def decode(self, tokens: torch.Tensor) -> list[str]:
        """The texts of (N, context_length) token ids."""
        special = {self._ids[word] for word in (PAD, START, END)}
        return [" ".join(self.vocabulary[token] for token in row if token not in special) for row in tokens.tolist()]

    def unknown(self, text: str) -> list[str]:
        """The words of `text` that the vocabulary has not."""
        return [word for word in _words(text) if word not in self._ids]

    def shown(self) -> str:
        """All words where they are few, else where they are."""
        words = [word for word in self.vocabulary if word not in (PAD, START, END)]
        return f"its words are {' '.join(words)}" if len(words) <= _FEW else f"its words are in {self.place}"

    def _encode(self, text: str) -> list[int]:
        words = _words(text)
        if unknown := self.unknown(text):
            raise UserError(f"{text!r}: the model has no word {unknown[0]!r}; its words are in {self.place}")
        if len(words) + 2 > self.context_length:
            raise UserError(f"{text!r} has {len(words)} words; the model reads at most {self.context_length - 2}")
        ids = [self._ids[START], *(self._ids[word] for word in words), self._ids[END]]
        return ids + [self._ids[PAD]] * (self.context_length - len(ids))


def _words(text: str) -> list[str]:
    return [word for word in (part.strip(".,!?") for part in text.lower().split()) if word]
