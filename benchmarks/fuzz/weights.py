"""Weights: tensors, types, bytes and formats that are not those of the architecture."""

import pickle
import random
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.fuzz.input import Input, wrong_if
from saeft_ray.model import pretrained
from saeft_ray.settings import Model

_ARCH = "digit-clip"


@cache
def _sound() -> dict[str, torch.Tensor]:
    return dict(pretrained.bare(Model(arch=_ARCH, pretrained="random")).state_dict())


def make(draw: random.Random, folder: Path) -> Input:
    state: dict[str, Any] = {name: tensor.clone() for name, tensor in _sound().items()}
    name = draw.choice([each for each, tensor in state.items() if tensor.numel() > 1])
    damage = draw.choice(
        (
            "none",
            "none",
            "half",
            "missing",
            "extra",
            "shape",
            "nan",
            "integers",
            "prefix",
            "nested",
            "pickle",
            "bytes",
            "rename",
        )
    )
    if damage == "missing":
        del state[name]
    elif damage == "extra":
        state[draw.choice(("logit_bias_", "visual.proj2", "head.weight"))] = torch.zeros(3)
    elif damage == "shape":
        state[name] = draw.choice((state[name].reshape(-1)[:-1], state[name][None], torch.zeros(0)))
    elif damage == "nan":
        state[name].view(-1)[0] = draw.choice((float("nan"), float("inf")))
    elif damage == "half":
        state = {each: t.to(torch.bfloat16) if t.is_floating_point() else t for each, t in state.items()}
    elif damage == "integers":
        state[name] = (state[name] * 9).to(torch.int64)
    elif damage == "prefix":
        state = {f"module.{each}": tensor for each, tensor in state.items()}
    elif damage == "rename":
        state[f"{name}_"] = state.pop(name)
    file = folder / draw.choice(("w.pt", "w.safetensors", "w.bin", "w.pth"))
    if damage == "pickle":
        file = file.with_suffix(".pt")
        file.write_bytes(pickle.dumps(_Module()))
    elif file.suffix == ".safetensors":
        save_file({each: tensor.contiguous() for each, tensor in state.items()}, file)
    else:
        torch.save({"state_dict": state, "epoch": 3} if damage == "nested" else state, file)
    if damage == "bytes":
        data = file.read_bytes()
        form = draw.choice(("empty", "cut", "pointer", "page", "length"))
        file.write_bytes(
            {"empty": b"", "cut": data[: draw.randrange(1, len(data))], "page": b"<!doctype html>" * 9,
             "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
             "length": b"\xff" * 8 + data[8:]}[form]
        )  # fmt: skip
        damage = f"bytes {form}"
    model = Model(arch=_ARCH, pretrained=str(file))

    def attempt() -> Path:
        pretrained.check(model)
        return file

    def check(_: Path) -> None:
        wrong_if(damage.startswith(("missing", "extra", "shape", "rename", "pickle", "bytes")), f"{damage} was taken")

    return Input(f"{file.suffix} {damage}", attempt, check, must_pass=damage in ("none", "half"))


class _Module:
    """Code, which a file of weights must never bring along."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exit, (3,)
