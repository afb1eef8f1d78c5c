"""Names for the features of every reader, and figure 2: the feature of each that fits a word best.

Shapes: N images, D dictionary width, W words, A attributes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from saeft_ray.config.feature_files import read_labels, read_words
from saeft_ray.config.schema import SweepConfig
from saeft_ray.draws import seed_of
from saeft_ray.errors import UserError
from saeft_ray.features import labels, names, words
from saeft_ray.features.activity import Floats, Ints, Matrix, counts, pattern
from saeft_ray.features.content import Name, Specimen
from saeft_ray.features.frozen import Frozen
from saeft_ray.features.readers import Kind
from saeft_ray.model import encoder
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.tuned import clip_of

SPECIMENS = 5
_DIRECTIONS: tuple[Kind, ...] = ("pca", "neurons")
_LISTED = 3  # words of a feature, and notes on the bank
_MANY = 3000  # texts from which a plan tells their number
_NO_TOWER = (UserError, AttributeError, RuntimeError, TypeError, NotImplementedError, OSError)
_NO_WORDS = words.Bank(words=(), embeddings=np.zeros((0, 0), np.float32))


class Named(NamedTuple):
    """The features of one reader with their words. `shown_as`: its kind, or "imported" for an SAE from elsewhere.
    `attribute`: the names that users' labels give.

    Names are measured on `named_by`: for PCA and neurons that is the direction itself, for top-k codes of any
    directions can be named; competition alone makes them so."""

    kind: Kind
    shown_as: str
    active: Matrix  # (N, D) frozen
    named_by: Matrix  # (N, D) frozen
    bank: words.Bank
    found: names.Names
    attribute: dict[int, Name]

    @property
    def on0(self) -> Ints:
        """(D,) images on which each feature is active."""
        return counts(self.active)

    @property
    def names_given(self) -> int | None:
        """Features that a word names; None if there are no words."""
        return int((self.found.named & (self.on0 > 0)).sum()) if self.bank.words else None

    def name(self, feature: int) -> Name | None:
        """The word if it is good enough, else the users' label, else nothing."""
        if not (self.bank.words and self.found.named[feature]):
            return self.attribute.get(feature)
        word, score = self.words(feature)[0]
        p, p_score = (float(each[feature]) for each in (self.found.p, self.found.p_f1))
        return Name(word=word, score=score, p=p, p_score=p_score)

    def words(self, feature: int) -> tuple[tuple[str, float], ...]:
        """The best words with the F1 of their texts."""
        if not self.bank.words or not self.on0[feature]:
            return ()
        best = zip(self.found.words[feature, :_LISTED], self.found.f1[feature, :_LISTED], strict=True)
        return tuple((self.bank.labels[word], float(f1)) for word, f1 in best)

    def class_of(self) -> Ints:
        """(D,) the class that a feature is named after, or -1."""
        found = np.full(self.active.shape[1], -1)
        for feature in np.flatnonzero(self.found.named) if self.bank.words else ():
            label = self.bank.words[self.found.words[feature, 0]].label_of
            found[feature] = -1 if label is None else label
        return found


def bank_of(plan: Plan, missing: list[str]) -> words.Bank:
    """The words of the sweep; none, and a sentence in `missing`, where the text tower cannot read them."""
    config = plan.config
    try:
        given = _given(config.features.words)
    except UserError as error:  # it was there when the sweep began
        given = ()
        missing.append(f"No feature is named after features.words: {error}.")
    try:
        found = words.bank(clip_of(plan), config.data.class_names(), given)
    except _NO_TOWER as error:
        missing.append(f"No feature has a name: the model's text tower gave no words ({error}).")
        return _NO_WORDS
    missing += _told(found.said)
    return found


def unread(config: SweepConfig) -> list[str]:
    """What is to be said of the sweep's words before anything runs: those that its text tower cannot read, or cuts."""
    try:
        listed, said = words.gathered(config.data.class_names(), _given(config.features.words))
    except UserError:  # a file or data that are gone since: told where they are missed
        return []
    try:
        _, more = words.readable(encoder.tokenizer(config.model), listed)
    except _NO_TOWER as error:
        return [f"No feature will have a name: the model's text tower reads no words ({error})."]
    texts = len(listed) * len(words.TEMPLATES)
    slow = [f"the text tower reads {texts:,} texts for names, once all trials have ended."] if texts > _MANY else []
    return slow + _told([*said, *more])


def _told(said: Sequence[str]) -> list[str]:
    """The first sentences on words that are left out or cut, and how many more there are."""
    lost = [each for each in said if " is read as " not in each]
    more = [f"{len(lost) - _LISTED:,} more words are left out or may be cut."] if len(lost) > _LISTED else []
    return lost[:_LISTED] + more


def _given(asked: str | Sequence[str] | None) -> Sequence[str]:
    """The words of a list, or of the file that holds them."""
    return read_words(asked) if isinstance(asked, str) else asked or ()


def named(plan: Plan, frozen: Frozen, kind: Kind, bank: words.Bank, given: labels.Labels | None = None) -> Named:
    """The reader's features with the words of `bank`, and with users' labels if they are `given`."""
    active = frozen.active(kind)
    named_by = frozen.plain(kind) if kind in _DIRECTIONS else active
    found = names.names(frozen.x, named_by, bank.embeddings, seed_of("names", plan.config.seed))
    shown_as = "imported" if kind == "trained" and plan.facts.imported else kind
    return Named(kind, shown_as, active, named_by, bank, found, _attributes(named_by, given) if given else {})


def labels_of(plan: Plan, frozen: Frozen, missing: list[str]) -> labels.Labels | None:
    """The users' labels of the pooled images, if the sweep has such."""
    path = plan.config.features.labels
    if path is None:
        return None
    try:
        found = labels.labels(read_labels(path), frozen.sizes, frozen.files)
    except UserError as error:
        missing.append(f"No feature is named after features.labels: {error}.")
        return None
    missing += found.said
    return found


def specimens(readers: list[Named], frozen: Frozen) -> tuple[Specimen, ...]:
    """For the words that name the first reader's features best, the feature of each reader that fits each best."""
    first = readers[0]
    if not first.names_given:
        return ()
    best: dict[int, float] = {}
    for feature in np.flatnonzero(first.found.named & (first.on0 > 0)):
        word = int(first.found.words[feature, 0])
        best[word] = max(best.get(word, 0.0), float(first.found.f1[feature, 0]))
    chosen = np.array(sorted(best, key=lambda word: -best[word])[:SPECIMENS])
    return tuple(each for one in readers for each in _specimens_of(one, frozen, chosen))


def _specimens_of(one: Named, frozen: Frozen, chosen: Ints) -> list[Specimen]:
    asked = np.broadcast_to(chosen, (one.named_by.shape[1], len(chosen)))
    f1 = names.text_f1(frozen.x, one.named_by, one.bank.embeddings, asked)
    return [
        Specimen(
            kind=one.shown_as,
            word=one.bank.labels[word],
            index=int(scores.argmax()),
            score=float(scores.max()),
            strongest=frozen.strongest(one.named_by, int(scores.argmax())),
            spread=frozen.spread(one.named_by, int(scores.argmax())),
        )
        for word, scores in zip(chosen, f1.T, strict=True)
        if scores.max() > 0
    ]


def _attributes(active: Matrix, given: labels.Labels) -> dict[int, Name]:
    """Names from labels; p is of a hypergeometric draw of as many images, Bonferroni over the attributes."""
    f1: Floats = labels.scores(active, given.member)
    often, size = counts(active), counts(given.member)
    chosen: NDArray[np.int64] = labels.named(f1)
    both = (pattern(active).T @ given.member).tocsr()
    found = {}
    for feature in np.flatnonzero(chosen >= 0).tolist():
        column = int(chosen[feature])
        as_good = stats.hypergeom.sf(both[feature, column] - 1, active.shape[0], size[column], often[feature])
        p = min(1.0, float(as_good) * len(given.attributes))
        if p <= names.MOST_P:
            found[feature] = Name(word=given.attributes[column], score=float(f1[feature, column]), p=p)
    return found
