"""The paper's other penalties on codes: on their difference, and on codes as distributions over the atoms.

Shapes: B batch, d embedding width, D dictionary width, n most atoms active in one code. s, s0 (B, D): codes of the
moving and the frozen embeddings; q, q0 = relu(s), relu(s0) over their sums: shares of each row's feature mass.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from saeft_ray.methods import NOTHING, Constants, DictionaryKind
from saeft_ray.methods.sae_ft import OnCodes, residual
from saeft_ray.model.unit import unit
from saeft_ray.settings import Few, Tunable, highest

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.sae import Dictionary

TINY = 1e-30  # a share of mass that replaces 0 where a logarithm is taken


class CodeDistance(OnCodes):
    """lambda_l1 · mean over B × D of |s - s0| + lambda_resid · mean over B × d of ((x - x0) - W(s - s0))²,
    x being what the dictionary was trained to read, and what a subclass adds by `distance`."""

    dictionary: DictionaryKind = "trained"
    lambda_l1: Tunable = 0.0
    lambda_resid: Tunable = 0.0

    def penalty(
        self, f: "Tensor", f0: "Tensor", dictionary: "Dictionary | None", constants: Constants = NOTHING
    ) -> "dict[str, Tensor]":
        assert dictionary is not None
        x, x0 = dictionary.read(f), dictionary.read(f0)
        s, s0 = dictionary.encode(x).codes, dictionary.encode(x0).codes
        terms = {}
        for name, weight in self.weights.items():
            if not weight:
                continue
            if name == "l1":
                term = (s - s0).abs().mean()
            elif name == "resid":
                term = residual(x, x0, s, s0, dictionary).mean()
            else:
                term = self.distance(s, s0, dictionary).mean()
            terms[name] = weight * term
        return terms

    def distance(self, s: "Tensor", s0: "Tensor", dictionary: "Dictionary") -> "Tensor":
        """The subclass's own term for each row, (B,)."""
        raise NotImplementedError


class SaeL1(CodeDistance):
    """The paper's delta-L1: the two terms and none of its own."""

    type: Literal["sae_l1"] = "sae_l1"
    about: ClassVar[str] = (
        "Fine-tuning that pays for the absolute change of the dictionary's codes, and for what these do not express."
    )


class SaeKL(CodeDistance):
    """lambda_kl · mean over B of KL(q0 ‖ q) = Σ q0 (log q0 - log(q + 1e-8)), and the two terms.

    An atom that lost all its mass costs its share of q0 times up to log 10⁸, and has no gradient to come back by.
    """

    type: Literal["sae_kl"] = "sae_kl"
    about: ClassVar[str] = "Fine-tuning that pays where the distribution of an image's codes leaves the frozen one."
    lambda_kl: Tunable = 0.0

    def distance(self, s: "Tensor", s0: "Tensor", dictionary: "Dictionary") -> "Tensor":
        q, q0 = shares(s), shares(s0)
        return (q0 * (q0.clamp_min(TINY).log() - (q + 1e-8).log())).sum(1)


class SaeW(CodeDistance):
    """lambda_wass · mean over B of Σ P C: the cost of moving mass q0 to q between atoms, and the two terms.

    C = max(0, 1 - cos(W_i, W_j)); P is the entropic plan of `iterations` Sinkhorn steps with kernel exp(-C / epsilon)
    (Cuturi 2013, alg. 1), in the log domain. Mass is only where a code is active, so all of it happens on n × n
    matrices a row and never on D × D. The plan is blurred, so the cost is not quite 0 where nothing moved.
    """

    type: Literal["sae_w"] = "sae_w"
    about: ClassVar[str] = (
        "Fine-tuning that pays for moving the mass of an image's codes between atoms, by the distance of the atoms."
    )
    zero_at_start: ClassVar[bool] = False
    read_atoms: ClassVar[tuple[str, ...]] = ("lambda_resid", "lambda_wass")
    lambda_wass: Tunable = 0.0
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    iterations: Few = 50

    def determining_settings(self) -> dict[str, Any]:
        idle = set[str]() if highest(self.lambda_wass) else {"epsilon", "iterations"}
        return {name: value for name, value in super().determining_settings().items() if name not in idle}

    def distance(self, s: "Tensor", s0: "Tensor", dictionary: "Dictionary") -> "Tensor":
        directions = unit(dictionary.atoms)
        most = max(1, int((s > 0).sum(1).max()), int((s0 > 0).sum(1).max()))
        q, to = shares(s).topk(most, dim=1)
        q0, start = shares(s0).topk(most, dim=1)
        cost = (1 - directions[start] @ directions[to].mT).clamp_min(0)  # (B, n, n)
        moved = transport(q0, q, cost, self.epsilon, self.iterations)
        return moved.masked_fill((q.sum(1) == 0) | (q0.sum(1) == 0), 0)


def shares(codes: "Tensor") -> "Tensor":
    """Rows of relu(codes) (B, D) over their sums; a code without active atoms stays 0."""
    positive = codes.relu()
    return positive / (positive.sum(1, keepdim=True) + 1e-8)


def transport(p: "Tensor", q: "Tensor", cost: "Tensor", epsilon: float, iterations: int) -> "Tensor":
    """Σ P C (B,) of the entropic plans from masses `p` (B, n) to `q` (B, m) at `cost` (B, n, m)."""
    if cost.element_size() < 4:
        p, q, cost = p.float(), q.float(), cost.float()
    kernel = -cost / epsilon
    log_p, log_q = p.clamp_min(TINY).log(), q.clamp_min(TINY).log()
    v = (q > 0).to(q).clamp_min(TINY).log()
    for _ in range(iterations):
        u = log_p - (kernel + v[:, None, :]).logsumexp(2)
        v = log_q - (kernel + u[:, :, None]).logsumexp(1)
    plan = (u[:, :, None] + kernel + v[:, None, :]).exp()
    return (plan * cost).sum((1, 2))
