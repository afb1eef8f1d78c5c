"""Dictionaries of others: the reference's state dict, and the folders of SAELens.

Shapes: d embedding width, D dictionary width.
"""

import hashlib
import io
import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from saeft_ray.errors import UserError
from saeft_ray.sae.dictionary import Dictionary, not_finite
from saeft_ray.settings import DictionarySettings
from saeft_ray.storage.location import Location
from saeft_ray.storage.retry import WAITS, Waits

_REFERENCE = ("encoder.weight", "decoder.weight", "b_pre")  # (D, d), (d, D), (d,)
_CFG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"
_TO_LENGTH = "constant_norm_rescale"  # SAELens: features at length √d


class Imported(NamedTuple):
    dictionary: Dictionary
    sha256: str  # of the file, or of the folder's two
    model: dict[str, str] | None  # the identity that an export of ours holds


def import_reference(path: str, k: int, *, activation: str = "topk", input: str = "unit") -> Dictionary:
    """The TopK SAE that the paper's code saved at `path` (a file or URL). Raises UserError where it does not fit.

    Its file holds no k (docs/methods.md 5.8), so k must be known. Its activation is the signed top-k, its input
    unit vectors.
    """
    settings = {"recipe": "reference", "k": k, "activation": activation, "input": input}
    return _reference(_bytes(Location(path)), path, settings)


def import_saelens(folder: str, k: int, *, input: str = "unit") -> Dictionary:
    """The SAE in a `folder` (or URL) of SAELens: `topk`, or `jumprelu` (`batch_topk` here) with k on average.

    Where SAELens normalises nothing itself, `input` says what it was trained on. Raises UserError for what a
    Dictionary cannot express.
    """
    files = {name: _bytes(Location(folder) / name) for name in (_CFG, _WEIGHTS)}
    return _saelens(files, folder, {"k": k, "input": input})[0]


def open_named(settings: DictionarySettings, d: int, endpoint: str | None = None, waits: Waits = WAITS) -> Imported:
    """Loads what `settings` name as `from`. Raises UserError if it is not there or does not fit `settings` and
    embeddings of width `d`."""
    source = settings.source
    assert source is not None
    place = Location(source, endpoint, waits)
    wanted = settings.model_dump(include={"k", "input", "activation"})
    model = None
    if source.endswith((".pt", ".pth")):
        content = _bytes(place)
        made = _reference(content, source, wanted)
        digest = hashlib.sha256(content).hexdigest()
    else:
        files = {name: _bytes(place / name) for name in (_CFG, _WEIGHTS)}
        made, model = _saelens(files, source, wanted)
        digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in files.values())).hexdigest()
    width, its_d = made.atoms.shape
    if its_d != d:
        raise UserError(f"dictionary.from: {source} reads features of width {its_d}, but this model's have {d}")
    for name, its in {"width": width, "activation": made.settings.activation, "input": made.settings.input}.items():
        if its != (said := getattr(settings, name)):
            raise UserError(f"dictionary.{name}: found {said}, but {source} has {its}; give {its}")
    return Imported(Dictionary(made.encoder, made.atoms, made.bias, settings, made.threshold), digest, model)


def _reference(content: bytes, source: str, settings: dict[str, Any]) -> Dictionary:
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        said = str(error).strip().splitlines()[0][:200]
        raise UserError(f"{source}: no file of torch that holds weights alone ({said}); save a state dict") from error
    if not isinstance(state, Mapping) or not all(isinstance(state.get(name), Tensor) for name in _REFERENCE):
        found = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise UserError(f"{source}: no TopK SAE of the reference; it needs {', '.join(_REFERENCE)}, found {found}")
    encoder, decoder, bias = (state[name].float() for name in _REFERENCE)
    return _checked(source, encoder, decoder.T, bias, settings)


def export_saelens(dictionary: Dictionary, folder: Path, model: dict[str, str] | None = None) -> None:
    """Writes `dictionary` as SAELens 6 reads it (`SAE.load_from_disk`), with the identity of its `model` if given.

    A dictionary of unit vectors is written so that SAELens takes raw features and gives the same codes, and
    reconstructions at the features' own length: it brings inputs to length √d, and the weights are scaled to match.
    Raises UserError for signed `topk`, which SAELens lacks.
    """
    settings = dictionary.settings
    if settings.activation == "topk":
        raise UserError("SAELens has no signed top-k: it sets negative codes to 0; export a relu_topk dictionary")
    width, d = dictionary.atoms.shape
    scale = math.sqrt(d) if settings.input == "unit" else 1.0
    tensors = {
        "W_enc": dictionary.encoder.T / scale,
        "W_dec": dictionary.atoms * scale,
        "b_enc": torch.zeros(width),
        "b_dec": dictionary.bias * scale,
    }
    form: dict[str, Any] = {"architecture": "topk", "k": settings.k, "rescale_acts_by_decoder_norm": False}
    if dictionary.threshold is not None:
        tensors["threshold"] = dictionary.threshold.expand(width)
        form = {"architecture": "jumprelu"}
    cfg = {
        **form,
        "d_in": d,
        "d_sae": width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": _TO_LENGTH if settings.input == "unit" else "none",
        "reshape_activations": "none",
        "metadata": {"saeft_ray": {"model": model, "settings": settings.model_dump(mode="json")}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().cpu().float().contiguous() for name, t in tensors.items()}, folder / _WEIGHTS)
    (folder / _CFG).write_text(json.dumps(cfg))


def _saelens(
    files: Mapping[str, bytes], source: str, settings: dict[str, Any]
) -> tuple[Dictionary, dict[str, str] | None]:
    try:
        cfg, tensors = json.loads(files[_CFG]), load_tensors(files[_WEIGHTS])
    except (ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{source}: no folder of SAELens ({error})") from error
    forms = {"topk": "relu_topk", "jumprelu": "batch_topk"}
    needed = {"W_enc", "W_dec", "b_enc", "b_dec"} | ({"threshold"} if cfg.get("architecture") == "jumprelu" else set())
    problems = {
        f"architecture {cfg.get('architecture')!r}": cfg.get("architecture") not in forms,
        f"k = {cfg.get('k')}, not {settings['k']}": cfg.get("architecture") == "topk" and cfg.get("k") != settings["k"],
        f"without {', '.join(sorted(needed - tensors.keys()))}": not needed <= tensors.keys(),
        "with an encoder bias": "b_enc" in tensors and bool((tensors["b_enc"] != 0).any()),
        "a bias not taken from the input": not cfg.get("apply_b_dec_to_input", True),
        "codes scaled by the length of atoms": bool(cfg.get("rescale_acts_by_decoder_norm"))
        and not torch.allclose(tensors["W_dec"].norm(dim=1), torch.ones(()), atol=1e-4),
        f"normalize_activations {cfg.get('normalize_activations')!r}": cfg.get("normalize_activations", "none")
        not in ("none", _TO_LENGTH),
        "features reshaped": cfg.get("reshape_activations", "none") != "none",
    }
    if told := [words for words, holds in problems.items() if holds]:
        raise UserError(f"{source}: an SAE that this project cannot use as it is: {'; '.join(told)}")
    scale = 1.0
    if cfg.get("normalize_activations") == _TO_LENGTH:
        scale, settings = math.sqrt(tensors["b_dec"].numel()), {**settings, "input": "unit"}
    settings = {**settings, "activation": forms[cfg["architecture"]]}
    threshold = tensors["threshold"].float().clamp_min(0) if cfg["architecture"] == "jumprelu" else None
    encoder, atoms, bias = (
        tensors["W_enc"].float().T * scale,
        tensors["W_dec"].float() / scale,
        tensors["b_dec"].float(),
    )
    card = (cfg.get("metadata") or {}).get("saeft_ray") or {}
    return _checked(source, encoder, atoms, bias / scale, settings, threshold), card.get("model")


def _checked(
    source: str, encoder: Tensor, atoms: Tensor, bias: Tensor, settings: dict[str, Any], threshold: Tensor | None = None
) -> Dictionary:
    tensors = {"encoder": encoder, "atoms": atoms, "bias": bias}
    given = tensors if threshold is None else {**tensors, "threshold": threshold}
    if encoder.ndim != 2 or atoms.shape != encoder.shape or bias.shape != encoder.shape[1:]:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise UserError(f"{source}: its shapes do not fit each other: {shapes}; wanted (D, d), (D, d), (d,)")
    if bad := not_finite(given):
        raise UserError(f"{source}: {bad} holds values that are not finite")
    if not 1 <= settings["k"] <= len(atoms):
        raise UserError(f"{source}: k = {settings['k']} atoms cannot be active among its {len(atoms)}")
    made = DictionarySettings(width=len(atoms), **settings)
    return Dictionary(encoder.contiguous(), atoms.contiguous(), bias.contiguous(), made, threshold)


def _bytes(file: Location) -> bytes:
    try:
        return file.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(
            f"{file.url}: there is no such file; an SAE is a .pt file of the reference, or a folder of SAELens with "
            f"{_CFG} and {_WEIGHTS}"
        ) from error
