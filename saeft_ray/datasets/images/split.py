"""Images of a split, rendered from files: under the evaluation transform, and as views."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from saeft_ray.datasets import Split
from saeft_ray.datasets.images.decode import RENDER_VERSION, SLOTS, Pixels, part, whole
from saeft_ray.datasets.images.files import Samples
from saeft_ray.draws import IntArray, uniform
from saeft_ray.errors import Corrupt, Gone, UserError
from saeft_ray.settings import Preprocessing

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


class Views(BaseModel):
    """Settings of what a view shows, and of how every picture is brought to size."""

    model_config = ConfigDict(frozen=True)
    scale: tuple[float, float]  # share of the image
    flip: bool  # whether half of the views are mirrored
    preprocessing: Preprocessing = Preprocessing()

    def identity(self) -> dict[str, object]:
        """Of the data alone: preprocessing is in the model's."""
        return {"scale": self.scale, "flip": self.flip, "render": RENDER_VERSION}


class CorruptFiles(BaseModel):
    """Settings for files that cannot be read as images: up to `skip` of them show the next image of their class in
    their place, with a warning that names them; one more stops the run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    skip: int = Field(default=0, ge=0)


class FileSplit(Split):
    """Some of the files of `samples`; pictures are uint8 (B, 3, S, S). Raises UserError at once if this machine has no
    room for what must be read."""

    def __init__(
        self,
        samples: Samples,
        members: IntArray,
        labels: IntArray,
        image_size: int,
        views: Views,
        corrupt: CorruptFiles,
        border: int = 0,
        class_groups: IntArray | None = None,
    ) -> None:
        samples.check_capacity()
        self._samples, self._members, self._size, self._views = samples, members, image_size, views
        self._corrupt, self._border = corrupt, border
        self._skipped: set[int] = set()
        self.labels, self.class_groups = labels, class_groups
        paths = "\0".join(samples.files[i] for i in members)
        self.example_order = hashlib.sha256(paths.encode(errors="surrogateescape")).hexdigest()

    def file(self, i: int) -> str:
        """Where image `i` is."""
        return self._samples.name(int(self._members[i]))

    @property
    def names(self) -> list[str]:
        """The files, relative to where the listing was made."""
        return [self._samples.files[i] for i in self._members]

    def images(self, index: IntArray) -> "torch.Tensor":
        """Pictures brought to S × S pixels as the model's preprocessing says."""

        def render(data: bytes, name: str) -> Pixels:
            return whole(data, name, self._size, self._border, self._views.preprocessing)

        return self._stack(np.asarray(index, np.int64), [render] * len(index))

    def views(self, index: IntArray, view: IntArray, seed: int) -> "torch.Tensor":
        """A random part of the image, of `scale` of its area and an aspect of 3:4 to 4:3, brought to S × S pixels."""
        index, view = np.broadcast_arrays(np.asarray(index, np.int64), np.asarray(view, np.int64))
        # Named by the place in the whole listing, so that a view does not depend on what is held out.
        draws = uniform(seed, "folder view", self._members[index], view, slots=SLOTS)

        def rendering(draw: NDArray[np.float32]) -> Callable[[bytes, str], Pixels]:
            of = self._views
            return lambda data, name: part(data, name, self._size, of.scale, draw, of.flip, of.preprocessing)

        return self._stack(index, [rendering(draw) for draw in draws])

    def _stack(self, index: IntArray, renderings: list[Callable[[bytes, str], Pixels]]) -> "torch.Tensor":
        import torch

        pictures = np.empty((len(renderings), self._size, self._size, 3), np.uint8)
        # Decoding and resizing leave Python's lock; order and result do not depend on the threads.
        for row, pixels in enumerate(threads(os.getpid()).map(self._picture, index.tolist(), renderings)):
            pictures[row] = pixels
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()

    def _picture(self, i: int, render: Callable[[bytes, str], Pixels]) -> Pixels:
        for candidate in self._candidates(i):
            file = int(self._members[candidate])
            try:
                return render(self._samples.read(file), self._samples.name(file))
            except Corrupt as error:
                self._skip(file, error)
            except FileNotFoundError as error:
                name = self._samples.name(file)
                raise Gone(f"{name}: is gone since its folder was listed; restore it") from error
        raise UserError(f"{self.file(i)}: no image of its class can be read")

    def _candidates(self, i: int) -> Iterator[int]:
        """`i`, then those of its class that follow, if it may be skipped."""
        yield i
        if self._corrupt.skip:
            same = np.flatnonzero(self.labels == self.labels[i])
            at = int(np.searchsorted(same, i))
            yield from [*same[at + 1 :].tolist(), *same[:at].tolist()]

    def _skip(self, file: int, error: Corrupt) -> None:
        if file in self._skipped:
            return
        if len(self._skipped) >= self._corrupt.skip:
            if not self._corrupt.skip:
                raise error
            raise UserError(f"more corrupt images than data.corrupt.skip = {self._corrupt.skip}: {error}") from error
        self._skipped.add(file)
        _log.warning("%s; the next image of its class replaces it", error)


@lru_cache(maxsize=1)
def threads(process: int) -> ThreadPoolExecutor:
    """One pool a process: the threads of a parent are gone after a fork."""
    return ThreadPoolExecutor(min(16, os.cpu_count() or 1), thread_name_prefix=f"images-{process}")
