"""Linear probing: the head's best fit to the frozen embeddings, as an end in itself and as a better start.

Shapes: N images, V views, d embedding width, C classes.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from saeft_ray.methods import Context, Method
from saeft_ray.model.unit import unit
from saeft_ray.settings import Tunable, lowest

if TYPE_CHECKING:
    from torch import Tensor

    from saeft_ray.model.encoder import Classifier

STEPS = 500  # of L-BFGS at most; digit world needs 30 to 160


class Probed(Method):
    """The head (H, c) that minimises, over all stored views of all training images,

    mean cross-entropy + lambda_decay / 2 · ‖H‖².

    A convex problem with one minimum, which L-BFGS finds from the zero-shot head: no learning rate, no order, no seed.
    It reads the stored activations and runs no encoder.
    """

    family: ClassVar[str] = "probe"
    lambda_decay: Tunable = 1e-5

    @property
    def needs_all_embeddings(self) -> bool:
        return True

    def problems(self) -> list[str]:
        if lowest(self.lambda_decay) == 0:
            return ["lambda_decay can be 0, where a probe of separable embeddings has no optimum; give positive values"]
        return []

    def start(self, context: Context, model: "Classifier") -> None:
        self.probe(model, context.embeddings, context.label_smoothing)

    def probe(
        self, model: "Classifier", parts: "Callable[[], Iterable[tuple[Tensor, Tensor]]]", smoothing: float
    ) -> None:
        """Puts the probe in the place of `model`'s head. `parts` gives all embeddings (n, d) with their labels (n,)."""
        import torch
        from torch.nn.functional import cross_entropy

        assert isinstance(self.lambda_decay, float)
        decay, head = self.lambda_decay, model.head
        weights = [head.weight, head.bias]
        count = sum(len(labels) for _, labels in parts())
        optimizer = torch.optim.LBFGS(
            weights, max_iter=STEPS, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
        )

        def loss() -> float:
            optimizer.zero_grad()
            decayed = decay / 2 * head.weight.square().sum()
            decayed.backward()  # type: ignore[no-untyped-call]
            total = decayed.detach()
            for f0, labels in parts():
                part = cross_entropy(head(unit(f0)), labels, reduction="sum", label_smoothing=smoothing) / count
                part.backward()  # type: ignore[no-untyped-call]
                total = total + part.detach()
            return float(total)

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        optimizer.zero_grad()


class LinearProbe(Probed):
    """The frozen encoder with the probe as its head. Deterministic: one trial, no seed."""

    type: Literal["linear_probe"] = "linear_probe"
    about: ClassVar[str] = "The frozen image encoder with a head that is fitted to the training images."
    trains: ClassVar[bool] = False


class LPFT(Probed):
    """Plain fine-tuning that starts from the probe (Kumar et al. 2022): embeddings need not move to make up for a head
    that does not fit them yet."""

    type: Literal["lp_ft"] = "lp_ft"
    about: ClassVar[str] = "Plain fine-tuning that starts from the head of a linear probe."
