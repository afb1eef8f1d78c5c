"""Facts about a model and its data that must be known before anything runs."""

from typing import NamedTuple

from saeft_ray.settings import Preprocessing


class Facts(NamedTuple):
    """Facts that a plan needs: found out once, by `sweep`, before anything runs."""

    model: dict[str, str]  # pretrained.identity
    image_size: int
    width: int  # d, the width of the embedding
    data: str  # the data set's fingerprint, test sets and all
    train: str  # the fingerprint of the training images alone
    sizes: dict[str, int]  # images by split
    classes: int
    imported: str | None = None  # SHA-256 of the SAE that the sweep file names
    blocks: int | None = None  # of the image encoder, if it is a vision transformer whose blocks can be read
    templates: int = 1  # of the zero-shot head
    preprocessing: Preprocessing = Preprocessing()  # of pictures, as the model wants them
    unseen: tuple[str, ...] = ()  # what a plan could not look at; nothing runs on such facts
    notes: tuple[str, ...] = ()  # what a user should know of the data
    search: str = ""  # the fingerprint of the images that the search sees
