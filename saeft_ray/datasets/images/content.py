"""What images hold, byte for byte, as far as it can be read in seconds: so that a sweep notices images that were
replaced by others of the same names and sizes, and takes a copied folder for what it is."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from saeft_ray.datasets.images.files import Samples
from saeft_ray.draws import IntArray

_ALL = 4_000_000_000  # bytes up to which everything is read
_FAR_ALL = 100_000_000  # the same at a URL
_FILES = 100_000  # files that are opened
_FAR_FILES = 2_000  # the same at a URL, where each is a request
_MIDDLE = 4096  # bytes that are read of a file where not everything is


def content(samples: Samples, at: IntArray) -> str:
    """A hash of the images of `samples` at the positions `at`, in that order, and before it, in words, what was read
    of them: two of them can be compared where the words agree."""
    most, files = (_FAR_ALL, _FAR_FILES) if samples.far else (_ALL, _FILES)
    everything = len(at) <= files and int(samples.sizes[at].sum()) <= most
    if len(at) > files:
        at = at[np.linspace(0, len(at) - 1, files).astype(int)]

    def digest(i: int) -> bytes:
        size = int(samples.sizes[i])
        start = max(0, (size - _MIDDLE) // 2)
        data = samples.read_once(i) if everything else samples.read_part(i, start, min(size, start + _MIDDLE))
        return hashlib.sha256(data).digest()

    whole = hashlib.sha256()
    with ThreadPoolExecutor(16) as pool:
        for one in pool.map(digest, at.tolist()):
            whole.update(one)
    return f"{'all bytes' if everything else f'{_MIDDLE} bytes'} of {len(at)} files: {whole.hexdigest()}"
