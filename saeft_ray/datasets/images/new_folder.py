"""A folder of class folders, or shards, that no sweep file names: its images with the classes of a data set."""

from typing import NamedTuple

import numpy as np

from saeft_ray.datasets import Dataset
from saeft_ray.datasets.images.files import absolute, some
from saeft_ray.datasets.images.find import find
from saeft_ray.datasets.images.rendered import ImageFiles
from saeft_ray.datasets.images.split import CorruptFiles, FileSplit, Views
from saeft_ray.errors import UserError


class NewFolder(NamedTuple):
    """The images; where they lie; what identifies them wherever that is; how many classes of the data set they hold."""

    place: str
    split: FileSplit
    fingerprint: str
    held: int


def new_folder(place: str, data: Dataset, image_size: int) -> NewFolder:
    """The images at the folder or URL `place` with the labels of `data`, rendered at `image_size` pixels. It may hold
    some of the classes. Raises UserError for what is no such folder, or one with a class that `data` has not."""
    samples = find(data.location(absolute(place)))
    if problems := list(samples.problems()):
        raise UserError("\n".join(problems))
    known = data.class_folders()
    if strangers := [folder for folder in samples.classes if folder not in known]:
        raise UserError(
            f"{samples.place}: {some(strangers)} among no classes of this sweep, which are {some(list(known))}; rename "
            "these folders, or take them out"
        )
    labels = [known[folder] for folder in samples.folders]
    plain = Views(scale=(1.0, 1.0), flip=False, preprocessing=data.preprocessing)
    views = data._views if isinstance(data, ImageFiles) else plain
    members = np.arange(len(samples.files), dtype=np.int64)
    split = FileSplit(samples, members, np.array(labels, np.int64), image_size, views, CorruptFiles())
    return NewFolder(samples.place, split, samples.fingerprint, len(set(labels)))
