"""Penalties on the codes of a dictionary: SAE-FT (arXiv 2605.15961) and its control with random directions.

Shapes: B batch, d embedding width, D dictionary width. s, s0 (B, D): codes of the moving and the frozen features;
M = 1 where the frozen code is active.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from saeft_ray.methods import DictionaryKind, Regularized
from saeft_ray.space import Tunable, highest

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.sae import Dictionary


class CodePenalty(Regularized):
    """Pays for added features, removed features, and change that the dictionary cannot express:

    lambda_add · mean over B × D of (1 - M)|s|
    + lambda_remove · mean over B × D of M · max(0, s0 - s)
    + lambda_resid · mean over B × d of ((x - x0) - W(s - s0))², x being what the dictionary was trained to read.

    `remove_on: codes` is the paper's form: it has no gradient for a feature that already left the top k.
    `preactivations` puts the pre-activation in the place of s, so that such a feature can come back.
    """

    lambda_resid: Tunable = 0.0
    lambda_add: Tunable = 0.0
    lambda_remove: Tunable = 0.0
    remove_on: Literal["codes", "preactivations"] = "codes"

    def problems(self) -> list[str]:
        if max(highest(value) for value in (self.lambda_resid, self.lambda_add, self.lambda_remove)) == 0:
            return [
                "lambda_resid, lambda_add and lambda_remove are all 0, so the penalty can never act; "
                "make one positive, or use ft"
            ]
        return []

    def penalty(self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None") -> "dict[str, Tensor]":
        assert dictionary is not None
        assert isinstance(self.lambda_resid, float)
        assert isinstance(self.lambda_add, float)
        assert isinstance(self.lambda_remove, float)
        x, x0 = dictionary.read(f), dictionary.read(f0)
        a, s = dictionary.encode(x)
        s0 = dictionary.encode(x0).codes
        active = s0 != 0
        terms = {}
        if self.lambda_add:
            terms["add"] = self.lambda_add * s.abs().masked_fill(active, 0).mean()
        if self.lambda_remove:
            now = s if self.remove_on == "codes" else a
            terms["remove"] = self.lambda_remove * (s0 - now).clamp_min(0).masked_fill(~active, 0).mean()
        if self.lambda_resid:
            terms["resid"] = self.lambda_resid * ((x - x0) - dictionary.combine(s - s0)).square().mean()
        return terms


class SaeFT(CodePenalty):
    """The penalty with the dictionary of an SAE trained on the frozen features, or with a control in its place."""

    type: Literal["sae_ft"] = "sae_ft"
    dictionary: DictionaryKind = "trained"


class RandomDictionary(CodePenalty):
    """The same penalty, size and sparsity with random directions: is the trained dictionary load-bearing?"""

    type: Literal["random_dictionary"] = "random_dictionary"
    dictionary: ClassVar[DictionaryKind] = "random"
