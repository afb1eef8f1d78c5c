"""Files of tensors that others made: what they hold, without loading it and without running what they hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open
from torch import Tensor

from saeft_ray.errors import UserError

_LFS = b"version https://git-lfs"


def listed(path: Path) -> dict[str, Tensor]:
    """The tensors of the state dict at `path` by name; of safetensors, on the device `meta`, with their shapes alone.

    Raises UserError, which says why, for what is no whole file of tensors.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the file of weights in it")
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({said(error)})") from error
    refuse_stub(start, str(path))
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as header:
                parts = {name: header.get_slice(name) for name in header.keys()}  # noqa: SIM118 - it is no dict
                return {name: torch.empty(part.get_shape(), device="meta") for name, part in parts.items()}
    except Exception as error:  # its reader raises many types
        raise UserError(f"{path}: is no whole file of safetensors ({said(error)}); fetch it again") from error
    return state_dict(unpickled(path, str(path)), str(path))


def refuse_stub(start: bytes, source: str) -> None:
    """Raises UserError if a file that begins with `start` holds nothing, or only says where its content lies."""
    if not start:
        raise UserError(f"{source}: is empty; fetch it again")
    if start.startswith(_LFS):
        raise UserError(f"{source}: is a pointer of git-lfs and not the file itself; run `git lfs pull` where it lies")


def unpickled(file: Path | IO[bytes], source: str) -> Any:
    """What torch saved in `file`, on the CPU, mapped from disk where that can be. Raises UserError if it holds more
    than data, or cannot be read."""
    try:
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=isinstance(file, Path))
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(file, map_location="cpu", weights_only=True)  # as torch saved before 1.6
    except Exception as error:  # bytes of another kind raise any type
        raise UserError(
            f"{source}: no file of torch that holds weights alone ({said(error)}); save the model's state_dict()"
        ) from error


def state_dict(content: Any, source: str) -> dict[str, Tensor]:
    """The named tensors of what was saved, from among a trainer's other things, without the prefix that
    DistributedDataParallel gives. Raises UserError if it holds anything else."""
    inner = content["state_dict"] if isinstance(content, Mapping) and "state_dict" in content else content
    if not isinstance(inner, Mapping) or not inner:
        found = type(inner).__name__ if not isinstance(inner, Mapping) else "nothing"
        raise UserError(f"{source}: found {found} where tensors by name should be; save the model's state_dict()")
    for name, value in inner.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{source}: {name!r} is {type(value).__name__} and no tensor; save the model's state_dict() alone"
            )
    if next(iter(inner)).startswith("module"):
        return {name[7:]: tensor for name, tensor in inner.items()}
    return dict(inner)


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The names of the tensors that hold NaN or infinity, the first ten."""
    found = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    return ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")


def said(error: BaseException) -> str:
    """The first line of what an exception says, or its name."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
