"""What a penalty does while it acts: numbers for the results table, measured on one batch at the end of an epoch.

Shapes: B batch, d embedding width, D dictionary width, n most atoms active in one pair of codes.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from saeft_ray.sae import Dictionary

EPSILON = 1e-12


def gradient_norms(terms: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """`gradient_norm.<term>`: the length of each term's own gradient by all parameters, before clipping."""
    norms = {}
    for name, term in terms.items():
        norms[f"gradient_norm.{name}"] = torch.zeros_like(term.detach())
        if term.requires_grad:
            gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
            squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
            norms[f"gradient_norm.{name}"] = torch.stack(squares).sum().sqrt()
    return norms


@torch.no_grad()
def of_codes(f: Tensor, f0: Tensor, dictionary: Dictionary) -> dict[str, Tensor]:
    """How moving features `f` (B, d) stand to frozen `f0` in the eyes of their dictionary, as shares:

    - `monitor.added_share` Σ(1 - M)|s| / Σ|s0| and `monitor.removed_share` ΣM·max(0, s0 - s) / Σ|s0|, where M marks
      what is active in s0: feature mass added and removed;
    - `monitor.sae_fvu_moving` Σ‖decode(s) - x‖² / Σ‖x - mean x‖²: variance of the moving embeddings left unexplained;
    - `monitor.outside_dictionary`: the share of ‖x - x0‖² outside the span of the atoms active in s or s0.
    """
    x, x0 = dictionary.read(f), dictionary.read(f0)
    s, s0 = dictionary.encode(x).codes, dictionary.encode(x0).codes
    active, mass = s0 != 0, s0.abs().sum() + EPSILON
    unexplained = (dictionary.decode(s) - x).square().sum()
    change = x - x0
    outside = outside_span(change, active | (s != 0), dictionary.atoms).square().sum()
    return {
        "monitor.added_share": s.abs().masked_fill(active, 0).sum() / mass,
        "monitor.removed_share": (s0 - s).clamp_min(0).masked_fill(~active, 0).sum() / mass,
        "monitor.sae_fvu_moving": unexplained / ((x - x.mean(0)).square().sum() + EPSILON),
        "monitor.outside_dictionary": outside / (change.square().sum() + EPSILON),
    }


def outside_span(vectors: Tensor, active: Tensor, atoms: Tensor) -> Tensor:
    """The part of each row of `vectors` (B, d) orthogonal to its atoms: those of (D, d) that `active` (B, D) marks."""
    most = max(1, int(active.sum(1).max()))
    marks, index = active.to(torch.uint8).topk(most, dim=1)
    basis = atoms[index].double() * marks[..., None]  # (B, n, d), zero rows beyond a row's own atoms
    target = vectors.double()[..., None]
    gram = basis @ basis.mT + 1e-9 * torch.eye(most, device=basis.device, dtype=basis.dtype)
    inside = basis.mT @ torch.linalg.solve(gram, basis @ target)
    outside: Tensor = (target - inside)[..., 0]
    return outside.to(vectors.dtype)
