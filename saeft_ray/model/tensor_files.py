"""Files of tensors that others made: what they hold, without loading it and without running what they hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from saeft_ray.errors import UserError

_LFS = b"version https://git-lfs"
_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}
SAVE_REAL = "give them in float32, float16, bfloat16 or float64"
REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""What weights are kept in. Of fewer bits or whole numbers they need scales, which a file of weights does not say."""


def listed(path: Path) -> dict[str, Tensor]:
    """The tensors of the state dict at `path` by name; of safetensors, on the device `meta`, shapes and types alone.

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
    _refuse_other_name(start, path)
    if path.suffix != ".safetensors":
        return state_dict(unpickled(path, str(path)), str(path))
    try:
        with safe_open(path, "pt") as header:
            parts = {name: header.get_slice(name) for name in header.keys()}  # noqa: SIM118 - it is no dict
            known = {name: (part.get_shape(), part.get_dtype()) for name, part in parts.items()}
    except Exception as error:  # its reader raises many types
        raise UserError(f"{path}: is no whole file of safetensors ({said(error)}); fetch it again") from error
    for name, (_, dtype) in known.items():
        if dtype not in _DTYPES:
            raise UserError(f"{path}: {name} is {dtype}, of which weights cannot be read; {SAVE_REAL}")
    return {name: torch.empty(shape, dtype=_DTYPES[dtype], device="meta") for name, (shape, dtype) in known.items()}


def listed_arrays(path: Path) -> list[str]:
    """The names of the arrays in numpy's archive at `path`. Raises UserError for what is none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files)
    except Exception as error:  # bytes of another kind raise any type, and a lone array has no names
        raise UserError(f"{path}: is no archive of numpy (.npz); give weights as .safetensors or .pt") from error


def _refuse_other_name(start: bytes, path: Path) -> None:
    """Raises UserError for a file of another kind than its name says, by which open_clip reads it."""
    if start[5:9] == b"\0\0\0{" and path.suffix != ".safetensors":
        found, wanted = "of safetensors", ".safetensors"
    elif start[:2] in (b"PK", b"\x80\x02") and path.suffix == ".safetensors":
        found, wanted = "of torch", ".pt"
    elif start.startswith(b"\x93NUMPY"):
        raise UserError(f"{path}: is an array of numpy and no file of weights; save the model's state_dict()")
    else:
        return
    raise UserError(f"{path}: is a file {found}, and not what its name says; rename it to {path.stem}{wanted}")


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
        # Torch advises to load with weights_only=False, which would run what the file holds.
        why = "it is damaged or holds more than tensors" if "weights_only" in str(error) else said(error)
        raise UserError(
            f"{source}: no file of torch that holds weights alone ({why}); save the model's state_dict()"
        ) from error


def state_dict(content: Any, source: str) -> dict[str, Tensor]:
    """The named tensors of what was saved, from among a trainer's other things, without the prefix that
    DistributedDataParallel gives. Raises UserError if it holds anything else."""
    inner = content["state_dict"] if isinstance(content, Mapping) and "state_dict" in content else content
    if not isinstance(inner, Mapping) or not inner:
        found = type(inner).__name__ if not isinstance(inner, Mapping) else "nothing"
        raise UserError(f"{source}: found {found} where tensors by name should be; save the model's state_dict()")
    if inner is not content:
        for name, other in content.items():
            if name != "state_dict" and isinstance(other, Mapping) and other.keys() & inner.keys():
                raise UserError(
                    f"{source}: holds weights twice, as state_dict and as {name}; save the one that is meant alone"
                )
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


def all_zero(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first matrix that holds nothing but zeros, "" if none does. Positions are passed over: a tower
    can see without them."""
    for name, tensor in tensors.items():
        if tensor.ndim > 1 and min(tensor.shape[:2]) > 1 and "pos" not in name and not tensor.any():
            return name
    return ""


def said(error: BaseException) -> str:
    """The first line of what an exception says, or its name."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
