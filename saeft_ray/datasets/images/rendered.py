"""The settings that all data sets of image files have: words for the head, and how views are rendered."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from saeft_ray.datasets import Dataset
from saeft_ray.datasets.images.split import CorruptFiles, Views


class ImageFiles(Dataset):
    """A data set whose images are files. A subclass reports `_rendering_problems` among its `problems`."""

    templates: Annotated[tuple[str, ...], Field(strict=False)] | None = ("a photo of a {}.",)
    scale: Annotated[tuple[float, float], Field(strict=False)] = (0.9, 1.0)  # share of the image that a view shows
    flip: bool = False  # whether half of the views are mirrored
    corrupt: CorruptFiles = CorruptFiles()

    def prompts(self) -> Sequence[str]:
        assert self.templates is not None
        return self.templates

    @property
    def _views(self) -> Views:
        return Views(scale=self.scale, flip=self.flip, preprocessing=self.preprocessing)

    def about(self) -> dict[str, str]:
        low, high = (f"{100 * share:g}" for share in self.scale)
        mirrored = ", mirrored in half of the views" if self.flip else ""
        return {"views": f"A random part of the image, of {low} to {high} % of its area{mirrored}."}

    def _rendering_problems(self) -> Iterator[str]:
        if self.templates == ():
            yield 'data.templates: empty; give at least one, such as "a photo of a {}.", or leave it out'
        for number, template in enumerate(self.templates or ()):
            if "{}" not in template:
                yield f'data.templates[{number}]: {template!r} has no "{{}}" where the class name goes'
        low, high = self.scale
        if not 0 < low <= high <= 1:
            yield f"data.scale: {[low, high]} is not a range of shares; it must be 0 < low <= high <= 1"

    def __getstate__(self) -> dict[Any, Any]:
        # A million names have no place in a message to another process.
        fields = {name: value for name, value in self.__dict__.items() if name in type(self).model_fields}
        return super().__getstate__() | {"__dict__": fields}
