"""How alike two models' embeddings are: CKA against the frozen model, against a method, and block by block.

Shapes: N images, T tokens, w width of the transformer.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from saeft_ray.features.cka import Cka, Sums, linear
from saeft_ray.features.comparisons import Records
from saeft_ray.features.compute import embeddings_of, sets_of
from saeft_ray.features.content import FROZEN, Similarity
from saeft_ray.features.movements import mean_of_known
from saeft_ray.features.recording import device_of, or_sentence
from saeft_ray.model import encoder
from saeft_ray.model.encoder import Classifier
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.tuned import (
    frozen_classifier,
    identity_of_embeddings,
    split_of,
    tuned_classifier,
)
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.store import Store
from saeft_ray.training.evaluate import BATCH

Sites = dict[tuple[str, str], Cka]  # by set and site


@dataclass(frozen=True)
class Alike:
    """CKA of the embeddings of two trials, per set. Can be pickled, as can `Blocks`."""

    plan: Plan
    store: Store

    @or_sentence
    def __call__(self, pair: tuple[TrialSpec, TrialSpec]) -> Sites:
        device, found = device_of(self.plan), {}
        for name in sets_of(self.plan):
            x, y = (embeddings_of(self.plan, self.store, one, name, device) for one in pair)
            found[name, "embedding"] = linear(x, y)
        return found


@dataclass(frozen=True)
class Blocks:
    """CKA of a trial's tokens with the frozen ones, per set and block: of the class token, and of the mean of all."""

    plan: Plan
    store: Store

    @or_sentence
    def __call__(self, spec: TrialSpec) -> Sites:
        device, names = device_of(self.plan), sets_of(self.plan)

        def build(folder: Path) -> None:
            models = frozen_classifier(self.plan, self.store), tuned_classifier(self.plan, spec, self.store)
            frozen, tuned = (model.to(device).eval() for model in models)
            found = {name: self._sums(frozen, tuned, name, device) for name in names}
            made = [(name, site, sums.cka()) for name, sites in found.items() for site, sums in sites.items()]
            (folder / "blocks.json").write_text(json.dumps(made))

        identity = {"trial": [identity_of_embeddings(self.plan, spec, name) for name in names], "version": 1}
        folder = self.store.ensure("blocks", fingerprint(identity, 24), build, identity)
        return {(name, site): Cka(*cka) for name, site, cka in json.loads((folder / "blocks.json").read_text())}

    @torch.inference_mode()
    def _sums(self, frozen: Classifier, tuned: Classifier, name: str, device: torch.device) -> dict[str, Sums]:
        split, found = split_of(self.plan, name), dict[str, Sums]()
        for start in range(0, len(split.labels), BATCH):
            images = split.images(np.arange(start, min(start + BATCH, len(split.labels)))).to(device)
            for (site, x), (_, y) in zip(_tokens(frozen, images), _tokens(tuned, images), strict=True):
                if site not in found:  # a first batch gives rough means; see Sums
                    found[site] = Sums(x.mean(0), y.mean(0))
                found[site].add(x.astype(np.float64), y.astype(np.float64))
        return found


def gathered(method: str, against: str, found: Sequence[Sites]) -> list[Similarity]:
    """Means over seeds."""
    return [
        Similarity(
            method=method,
            against=against,
            dataset=dataset,
            site=site,
            biased=mean_of_known([each[dataset, site].biased for each in found]),
            unbiased=mean_of_known([each[dataset, site].unbiased for each in found]),
        )
        for dataset, site in (found[0] if found else ())
    ]


def of_records(records: Records) -> list[Similarity]:
    """CKA of every method's embeddings with the frozen ones."""
    made = []
    for method, trials in records.items():
        sites: list[Sites] = [{(name, "embedding"): cka for name, cka in t.similarity.items()} for t in trials]
        made += gathered(method, FROZEN, sites)
    return made


def _tokens(model: Classifier, images: torch.Tensor) -> Iterator[tuple[str, np.ndarray]]:
    sites = range(1, encoder.depth(model) + 1)
    _, tokens = encoder.with_tokens(model, sites, lambda: model.embed(images))
    for site, each in zip(sites, tokens, strict=True):
        yield f"block {site}", each[:, 0].cpu().numpy()
        yield f"block {site}, mean token", each.mean(1).cpu().numpy()
