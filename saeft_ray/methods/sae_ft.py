"""Penalties on the codes of a dictionary: SAE-FT (arXiv 2605.15961) and its control with random directions.

Shapes: B batch, d embedding width, D dictionary width. s, s0 (B, D): codes of the moving and the frozen features;
M = 1 where the frozen code is active.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from saeft_ray.errors import UserError
from saeft_ray.methods import NOTHING, Constants, DictionaryKind, EmbeddingPenalty, Frozen
from saeft_ray.settings import DictionarySettings, Tunable, highest

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.sae import Dictionary


PUBLISHED = {"lambda_resid": 70.0, "lambda_add": 700.0, "lambda_remove": 1.4}


class OnCodes(EmbeddingPenalty):
    """Compares codes of a dictionary. Terms of the weights `read_atoms` look at its atoms; all others are sums over
    codes, and so the same for every order of these."""

    read_atoms: ClassVar[tuple[str, ...]] = ("lambda_resid",)

    def problems(self) -> list[str]:
        if found := super().problems():
            return found
        if self.dictionary_kind == "permuted" and not any(highest(getattr(self, name)) for name in self.read_atoms):
            named = " or ".join(self.read_atoms)
            return [
                f"dictionary: permuted without {named} is dictionary: trained under another name: only those terms "
                f"look at atoms, and the others do not see the order of codes; give {named}, or leave this method out"
            ]
        return []

    def determining_settings(self) -> dict[str, Any]:
        return {**super().determining_settings(), "type": "codes", "dictionary": self.dictionary_kind}


class CodePenalty(OnCodes):
    """Pays for added features, removed features, and change that the dictionary cannot express:

    lambda_add · mean over B × D of (1 - M)|s|
    + lambda_remove · mean over B × D of M · max(0, s0 - s)
    + lambda_resid · mean over B × d of ((x - x0) - W(s - s0))², x being what the dictionary was trained to read.

    `remove_on: codes` is the paper's form: it has no gradient for a feature that already left the top k.
    `preactivations` puts the pre-activation in the place of s, so that such a feature can come back.

    `scaling: mean` is the paper's: its lambdas change meaning with D, k and d. `relative` keeps the three sums over a
    row and divides the first two by E Σ|s0|, the third by E ‖x0‖² (expectations over all frozen activations): the
    shares of feature mass added and removed, and of the features' size that changed unexplained.

    `preset: paper` gives the three lambdas as published. Its code multiplies everything by reg_lambda = 70: the added
    term by lambda_mask = 10 first, the residual by mu = 1, the removed term by a fixed 0.02. So lambda_add = 70 · 10,
    lambda_resid = 70 · 1, lambda_remove = 70 · 0.02. They hold for means at D = 2048, k = 32, for raw features and a
    top k without ReLU, so the sweep's dictionary must be `input: raw`, `activation: topk`.
    """

    preset: Literal["none", "paper"] = "none"
    lambda_resid: Tunable = 0.0
    lambda_add: Tunable = 0.0
    lambda_remove: Tunable = 0.0
    remove_on: Literal["codes", "preactivations"] = "codes"
    scaling: Literal["mean", "relative"] = "mean"

    @model_validator(mode="before")
    @classmethod
    def _published(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("preset") != "paper":
            return given
        other = [name for name, value in PUBLISHED.items() if given.get(name, value) != value]
        if other:
            raise UserError(f"preset: paper sets {' and '.join(other)} itself; leave out the preset, or the values")
        return {**given, **PUBLISHED}

    def dictionary_problems(self, dictionary: DictionarySettings) -> dict[str, str]:
        if self.preset != "paper" or (dictionary.input, dictionary.activation) == ("raw", "topk"):
            return {}
        return {
            "preset": f"found dictionary.input {dictionary.input} and dictionary.activation {dictionary.activation}; "
            "the published lambdas hold for raw and topk: set both, or give lambdas of your own"
        }

    def with_values(self, values: Mapping[str, float]) -> Self:
        given: dict[str, Any] = dict(values)
        if any(value != PUBLISHED.get(name, value) for name, value in values.items()):
            given["preset"] = "none"  # other strengths are not the published ones
        return super().with_values(given)

    def determining_settings(self) -> dict[str, Any]:
        idle = {"preset"} if highest(self.lambda_remove) else {"preset", "remove_on"}
        return {name: value for name, value in super().determining_settings().items() if name not in idle}

    @property
    def needs_all_embeddings(self) -> bool:
        return self.scaling == "relative"

    @property
    def has_constants(self) -> bool:
        return self.scaling == "relative"

    def prepare(self, frozen: Frozen) -> "dict[str, Tensor]":
        import torch

        dictionary = frozen.dictionary
        assert dictionary is not None
        sums, rows = torch.zeros(2, dtype=torch.float64), 0
        for part in frozen.activations():
            x = dictionary.read(part)
            parts = dictionary.encode(x).codes.abs().sum(), x.square().sum()
            sums, rows = sums + torch.stack(parts).double().cpu(), rows + len(x)
        mass, size = (sums / rows).clamp_min(1e-8)
        return {"mass": mass, "size": size}

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        assert dictionary is not None
        x, x0 = dictionary.read(f), dictionary.read(f0)
        a, s = dictionary.encode(x)
        s0 = dictionary.encode(x0).codes
        active = s0 != 0
        mass: Tensor | int = s.shape[1]
        size: Tensor | int = x.shape[1]
        if self.scaling == "relative":
            mass, size = constants["mass"].to(x), constants["size"].to(x)
        weights, terms = self.weights, {}
        if weights["add"]:
            terms["add"] = weights["add"] * s.abs().masked_fill(active, 0).sum(1).mean() / mass
        if weights["remove"]:
            now = s if self.remove_on == "codes" else a
            lost = (s0 - now).clamp_min(0).masked_fill(~active, 0)
            terms["remove"] = weights["remove"] * lost.sum(1).mean() / mass
        if weights["resid"]:
            terms["resid"] = weights["resid"] * residual(x, x0, s, s0, dictionary).sum(1).mean() / size
        return terms


def residual(x: "Tensor", x0: "Tensor", s: "Tensor", s0: "Tensor", dictionary: "Dictionary") -> "Tensor":
    """((x - x0) - W(s - s0))² (B, d): the change of `x` that the change of its code does not express."""
    return ((x - x0) - dictionary.combine(s - s0)).square()


class SaeFT(CodePenalty):
    """The penalty with the dictionary of an SAE trained on the frozen features, or with a control in its place."""

    type: Literal["sae_ft"] = "sae_ft"
    about: ClassVar[str] = (
        "Fine-tuning that pays for features that appear or disappear in the codes of a dictionary, and for the rest."
    )
    dictionary: DictionaryKind = "trained"


class RandomDictionary(CodePenalty):
    """The same penalty, size and sparsity with random directions: is the trained dictionary load-bearing?"""

    type: Literal["random_dictionary"] = "random_dictionary"
    about: ClassVar[str] = "The control of sae_ft: the same penalty with a dictionary of random directions."
    control_of: ClassVar[str] = "sae_ft"
    dictionary: ClassVar[DictionaryKind] = "random"
