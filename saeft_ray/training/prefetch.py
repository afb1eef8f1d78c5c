"""Images rendered ahead of the device that waits for them, by processes of their own where there are some."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

Asked = TypeVar("Asked")
Given = TypeVar("Given")


def ahead(
    render: Callable[[Asked], Given], requests: Sequence[Asked], loaders: int, device: torch.device
) -> Iterator[Given]:
    """render(request) for each of `requests`, in their order; with `loaders` > 0, so many processes work ahead.

    What comes does not depend on `loaders`. For a GPU it is pinned.
    """
    if loaders == 0:
        yield from map(render, requests)
        return
    rendered = _Rendered(render, requests)
    processes = min(loaders, max(1, len(requests)))
    yield from DataLoader(rendered, batch_size=None, num_workers=processes, pin_memory=device.type == "cuda")


class _Rendered(Dataset[Given], Generic[Asked, Given]):
    """Answers by number; a map-style data set, so that processes may render them in any order."""

    def __init__(self, render: Callable[[Asked], Given], requests: Sequence[Asked]):
        self._render, self._requests = render, requests

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, i: int) -> Given:
        return self._render(self._requests[i])
