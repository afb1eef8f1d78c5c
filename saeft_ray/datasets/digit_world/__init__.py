"""Digit world: real handwritten digits drawn in many styles, a world small enough to pre-train, fine-tune and break a
CLIP model on two CPU cores. Fine-tuning's images carry a spurious cue (the ground gives the digit away); the shifts,
except V2, do not.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from saeft_ray.datasets import Dataset, Role
from saeft_ray.datasets.digit_world import digits
from saeft_ray.datasets.digit_world.styles import (
    ADVERSARIAL,
    DIAGNOSTIC,
    DIGITS,
    GROUNDS,
    INKS,
    RENDER_VERSION,
    SELECTION_RENDERINGS,
    SHIFTS,
    STROKES,
)
from saeft_ray.storage.fingerprint import fingerprint

if TYPE_CHECKING:
    from saeft_ray.datasets.digit_world.splits import DigitSplit


class DigitWorld(Dataset):
    """5,000 MNIST digits (2,000 for pre-training, 1,500 train, 500 selection, 1,000 test) and 1,797 UCI digits."""

    type: Literal["digit_world"] = "digit_world"
    cue: float = Field(default=0.8, ge=0, le=1)  # share of fine-tuning-style images whose ground is set by the digit

    def class_names(self) -> Sequence[str]:
        return DIGITS

    def prompts(self) -> Sequence[str]:
        return (
            *(f"a {medium} of a {{}}" for medium in ("photo", "picture", "image", "drawing")),
            *(f"a photo of a {ink} {{}}" for ink in INKS),
            *(f"a photo of a {{}} on a {ground} background" for ground in GROUNDS),
            *(f"a photo of a {stroke} {{}}" for stroke in STROKES[1:]),
        )

    def test_sets(self) -> dict[str, Role]:
        roles: dict[str, Role] = {"ID": "id"}
        return roles | dict.fromkeys(SHIFTS, "ood") | {DIAGNOSTIC: "diagnostic"}

    def about(self) -> dict[str, str]:
        cue = f"the ground tells the digit in {100 * self.cue:g} % of them"
        return {
            "train": f"Handwritten digits of MNIST in white ink on plain grounds; {cue}.",
            "selection": "Other digits in the style of the training images.",
            "views": "Every view is the digit drawn anew in the same style.",
            "ID": "Unseen digits in the style of the training images.",
            "V2": "Fresh pictures with more jitter, strokes and blur; the ground still tells the digit.",
            "R": "Textured pairs of ink and ground that fine-tuning never saw; the ground tells nothing.",
            "Sketch": "Outlines only; the ground tells nothing.",
            "ON": "Digits that are tilted, small or shifted, in all colours; the ground tells nothing.",
            "C": "Digits with noise, blur or parts hidden; the ground tells nothing.",
            "UCI": "Digits of another source, of 8 × 8 pixels; the ground tells nothing.",
            "A": "The pictures without a cue that a linear model on pixels gets most wrong.",
            DIAGNOSTIC: "The pictures of ID on grounds that tell nothing: what is known of digits without the cue.",
        }

    def sizes(self) -> dict[str, int]:
        test = 10 * digits.PER_CLASS["test"]
        return {
            "train": 10 * digits.PER_CLASS["train"],
            "selection": 10 * digits.PER_CLASS["selection"] * SELECTION_RENDERINGS,
            "ID": test,
            **dict.fromkeys(SHIFTS, test),
            "UCI": digits.UCI_DIGITS,
            "A": ADVERSARIAL,
            DIAGNOSTIC: test,
        }

    def split(self, name: str, image_size: int = 28) -> "DigitSplit":
        """Raises KeyError for a name that is not a split, UserError for less than 28 px."""
        if name not in self.sizes():
            raise KeyError(f"digit world has no split {name!r}; it has {', '.join(self.sizes())}")
        from saeft_ray.datasets.digit_world.splits import DigitSplit

        return DigitSplit(name, self.cue, image_size)

    def fingerprint(self) -> str:
        return fingerprint({"digits": digits.fingerprint(), "render": RENDER_VERSION, "settings": self.model_dump()})

    def problems(self) -> list[str]:
        return digits.problems()
