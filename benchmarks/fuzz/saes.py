"""SAE files: of the reference and of SAELens, with tensors, settings and bytes that are not theirs."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.fuzz.input import Input, wrong_if
from saeft_ray.sae.exchange import import_reference, import_saelens

_D, _WIDTH, _K = 8, 16, 4
_CONFIGS: tuple[Any, ...] = ([], None, 3, "x", {}, {"architecture": "gated"}, {"architecture": ["topk"]})
_SETTINGS: tuple[tuple[str, Any], ...] = (
    ("k", 3), ("k", None), ("k", "4"), ("finetuning_scaling_factor", True), ("normalize_activations", "layer_norm"),
    ("reshape_activations", "hook_z"), ("apply_b_dec_to_input", False), ("dtype", "float99"), ("d_sae", 99),
    ("rescale_acts_by_decoder_norm", True), ("metadata", 3), ("architecture", "standard"),
)  # fmt: skip


def make(draw: random.Random, folder: Path) -> Input:
    torch.manual_seed(draw.randrange(1 << 30))
    return _reference(draw, folder) if draw.random() < 0.5 else _saelens(draw, folder)


def _reference(draw: random.Random, folder: Path) -> Input:
    state: dict[str, Any] = {
        "encoder.weight": torch.randn(_WIDTH, _D),
        "decoder.weight": torch.randn(_D, _WIDTH),
        "b_pre": torch.randn(_D),
    }
    damage = _hurt(draw, state)
    file = folder / "sae.pt"
    if damage == "not a mapping":
        torch.save(draw.choice(([1], torch.zeros(3), "x", None, {"state_dict": state})), file)
    else:
        torch.save(state, file)
    damage = _bytes(draw, file, damage)
    sound = damage in ("none", "half")
    return Input(f"reference {damage}", lambda: import_reference(str(file), _K), _checked(damage), must_pass=sound)


def _saelens(draw: random.Random, folder: Path) -> Input:
    atoms = torch.randn(_WIDTH, _D)
    state: dict[str, Any] = {
        "W_enc": torch.randn(_D, _WIDTH),
        "W_dec": atoms / atoms.norm(dim=1, keepdim=True),
        "b_enc": torch.zeros(_WIDTH),
        "b_dec": torch.randn(_D),
    }
    config: Any = {"architecture": "topk", "k": _K, "d_in": _D, "d_sae": _WIDTH, "apply_b_dec_to_input": True}
    damage = _hurt(draw, state)
    if damage == "none" and draw.random() < 0.5:
        name, value = draw.choice(_SETTINGS)
        config[name], damage = value, f"setting {name} {value}"
    elif damage == "not a mapping":
        config = draw.choice(_CONFIGS)
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "sae_weights.safetensors")
    damage = _bytes(draw, folder / draw.choice(("cfg.json", "sae_weights.safetensors")), damage)
    sound = damage == "none"
    return Input(f"SAELens {damage}", lambda: import_saelens(str(folder), _K), _checked(damage), must_pass=sound)


def _hurt(draw: random.Random, state: dict[str, Any]) -> str:
    """Changes the tensors; returns what was done."""
    name = draw.choice(list(state))
    damage = draw.choice(
        (
            "none",
            "none",
            "missing",
            "extra",
            "nan",
            "inf",
            "shape",
            "integers",
            "half",
            "bytes",
            "empty tensor",
            "not a mapping",
        )
    )
    if damage == "missing":
        del state[name]
    elif damage == "extra":
        state[draw.choice(("encoder.bias", "threshold", "mean", "scaling_factor", "x" * 50))] = torch.randn(_WIDTH)
    elif damage in ("nan", "inf"):
        state[name] = state[name].clone()
        state[name].view(-1)[draw.randrange(state[name].numel())] = float(damage)
    elif damage == "shape":
        state[name] = draw.choice((state[name].T.contiguous(), state[name][:-1], state[name][None]))
        damage = "none" if state[name].ndim == 1 and len(state[name]) in (_D, _WIDTH) else damage
    elif damage == "integers":
        state[name] = state[name].to(torch.int32)
    elif damage == "half":
        state.update({each: tensor.to(draw.choice((torch.float16, torch.bfloat16))) for each, tensor in state.items()})
    elif damage == "empty tensor":
        state[name] = torch.zeros(0)
    return damage


def _bytes(draw: random.Random, file: Path, damage: str) -> str:
    if damage != "bytes":
        return damage
    data = file.read_bytes()
    form = draw.choice(("empty", "cut", "pointer", "text"))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    file.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "pointer": pointer, "text": b"<html>"}[form])
    return f"bytes {form}"


def _checked(damage: str) -> Any:
    def check(dictionary: Any) -> None:
        refused = ("missing", "extra", "nan", "inf", "shape", "empty tensor", "not a mapping", "bytes")
        wrong_if(damage.startswith(refused), f"{damage} was read")
        codes = dictionary.encode(torch.randn(3, _D)).codes
        wrong_if(not bool(torch.isfinite(codes).all()), "codes that are not finite")

    return check
