"""Dictionaries of others: the reference's state dict, and the folders of SAELens.

Shapes: d embedding width, D dictionary width.
"""

import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from saeft_ray.errors import SaeftError, UserError
from saeft_ray.model.tensor_files import REAL, SAVE_REAL, not_finite, refuse_stub, said, unpickled
from saeft_ray.sae.dictionary import Dictionary
from saeft_ray.settings import DictionarySettings, is_of_torch
from saeft_ray.storage.location import Location
from saeft_ray.storage.retry import WAITS, Waits

_REFERENCE = ("encoder.weight", "decoder.weight", "b_pre")  # (D, d), (d, D), (d,)
_CFG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"
_SAELENS = {"W_enc", "W_dec", "b_enc", "b_dec"}
_FORMS = {"topk": "relu_topk", "jumprelu": "batch_topk"}  # architecture there → activation here
# Settings of SAELens that say where an SAE comes from, and nothing of what it computes.
_ORIGIN = {
    *("dtype", "device", "metadata", "model_name", "hook_name", "hook_point", "hook_layer", "hook_head_index"),
    *("context_size", "prepend_bos", "dataset_path", "dataset_trust_remote_code", "sae_lens_version"),
    *(
        "sae_lens_training_version",
        "neuronpedia_id",
        "model_from_pretrained_kwargs",
        "seqpos_slice",
        "model_class_name",
    ),
}
_USED = {
    *("architecture", "k", "activation_fn", "activation_fn_str", "activation_fn_kwargs", "d_in", "d_sae"),
    *("apply_b_dec_to_input", "rescale_acts_by_decoder_norm", "normalize_activations", "reshape_activations"),
}
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
    if is_of_torch(source):
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
    refuse_stub(content, source)
    state = unpickled(io.BytesIO(content), source)
    known = state if isinstance(state, Mapping) else {}
    if not all(isinstance(known.get(name), Tensor) for name in _REFERENCE):
        found = ", ".join(map(str, known)) or type(state).__name__
        inside = " or ".join(str(name) for name, part in known.items() if isinstance(part, Mapping))
        advice = f"; save {inside} of it alone" if inside else ""
        raise UserError(
            f"{source}: no TopK SAE of the reference; it needs {', '.join(_REFERENCE)}, found {found}{advice}"
        )
    if unused := [str(name) for name in state if name not in _REFERENCE]:
        raise UserError(
            f"{source}: holds {', '.join(unused)}, which a TopK SAE of the reference does not have and which would not "
            f"be used; save {', '.join(_REFERENCE)} alone, if it computes the same without"
        )
    encoder, decoder, bias = (_plain(state[name], name, source) for name in _REFERENCE)
    if decoder.ndim != 2:
        raise UserError(f"{source}: decoder.weight has the shape {tuple(decoder.shape)}; wanted (d, D)")
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
    cfg, tensors = _parsed(files, source)
    if told := [*_unusable(cfg, tensors, settings["k"])]:
        raise UserError(f"{source}: an SAE that this project cannot use as it is: {'; '.join(told)}")
    scale, activation = 1.0, _FORMS[str(_form(cfg))]
    if cfg.get("normalize_activations") == _TO_LENGTH:
        scale, settings = math.sqrt(tensors["b_dec"].numel()), {**settings, "input": "unit"}
    threshold = tensors["threshold"].clamp_min(0) if activation == "batch_topk" else None
    encoder, atoms, bias = tensors["W_enc"].T * scale, tensors["W_dec"] / scale, tensors["b_dec"] / scale
    made = _checked(source, encoder, atoms, bias, {**settings, "activation": activation}, threshold)
    metadata = cfg.get("metadata")
    card = metadata.get("saeft_ray") if isinstance(metadata, dict) else None
    return made, card.get("model") if isinstance(card, dict) else None


def _parsed(files: Mapping[str, bytes], source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and tensors of a folder of SAELens, in float32. Raises UserError for files of another kind."""
    for name, content in files.items():
        refuse_stub(content, f"{source}/{name}")
    try:
        cfg, tensors = json.loads(files[_CFG]), load_tensors(files[_WEIGHTS])
    except Exception as error:  # bytes of another kind raise any type
        raise UserError(f"{source}: no folder of SAELens ({said(error)})") from error
    if not isinstance(cfg, dict):
        raise UserError(f"{source}/{_CFG}: found {type(cfg).__name__}, where SAELens has a map of settings")
    return cfg, {name: _plain(tensor, name, source) for name, tensor in tensors.items()}


def _form(cfg: Mapping[str, Any]) -> object:
    """The architecture in SAELens 6's words; before, a `standard` one could have the activation function top-k."""
    form = cfg.get("architecture")
    return "topk" if form == "standard" and cfg.get("activation_fn_str") == "topk" else form


def _unusable(cfg: Mapping[str, Any], tensors: Mapping[str, Tensor], k: int) -> Iterator[str]:
    """What of an SAE of SAELens a Dictionary cannot express or would not use, in words."""
    form, options = _form(cfg), cfg.get("activation_fn_kwargs") or {}
    if not isinstance(form, str) or form not in _FORMS:
        yield f"architecture {form!r}"
        return
    needed = _SAELENS | ({"threshold"} if form == "jumprelu" else set())
    if missing := sorted(needed - tensors.keys()):
        yield f"without {', '.join(missing)}"
        return
    if unused := sorted(tensors.keys() - needed):
        yield f"with {', '.join(unused)}, which would not be used"
    if unused := sorted(str(name) for name, value in cfg.items() if name not in _ORIGIN | _USED and _says(value)):
        yield f"with the settings {', '.join(unused)}, which would not be used"
    if not isinstance(options, dict):
        yield f"activation_fn_kwargs {options!r}"
    elif unused := sorted(str(name) for name, value in options.items() if name != "k" and _says(value)):
        yield f"with the activation_fn_kwargs {', '.join(unused)}, which would not be used"
    elif form == "topk":
        for its in [given["k"] for given in (cfg, options) if given.get("k") is not None] or [None]:
            if its != k:  # SAELens 5 keeps it among the arguments of its activation function
                yield f"k = {its!r}, not {k!r}"
    allowed = ("topk",) if form == "topk" else ("relu", "jumprelu")
    for name in ("activation_fn", "activation_fn_str"):
        if _says(its := cfg.get(name)) and its not in allowed:
            yield f"{name} {its!r}"
    if (tensors["b_enc"] != 0).any():
        yield "with an encoder bias"
    if tensors["b_enc"].shape != tensors["W_enc"].shape[1:]:
        yield f"b_enc {tuple(tensors['b_enc'].shape)} beside W_enc {tuple(tensors['W_enc'].shape)}"
    if not cfg.get("apply_b_dec_to_input", True):
        yield "a bias not taken from the input"
    if cfg.get("rescale_acts_by_decoder_norm") and not _unit_rows(tensors["W_dec"]):
        yield "codes scaled by the length of atoms"
    if _says(its := cfg.get("normalize_activations")) and its != _TO_LENGTH:
        yield f"normalize_activations {its!r}"
    if _says(cfg.get("reshape_activations")):
        yield "features reshaped"
    for name, place, axis in (("d_in", "b_dec", -1), ("d_sae", "W_dec", 0)):
        shape = tensors[place].shape
        if (its := cfg.get(name)) is not None and shape and its != shape[axis]:
            yield f"{name} {its!r}, but {place} {tuple(shape)}"


def _says(value: object) -> bool:
    """Whether a setting asks for anything."""
    return value not in (None, False, "none", "", [], {})


def _unit_rows(atoms: Tensor) -> bool:
    return atoms.ndim == 2 and torch.allclose(atoms.norm(dim=1), torch.ones(()), atol=1e-4)


def _plain(tensor: Tensor, name: str, source: str) -> Tensor:
    """`tensor` in float32. Raises UserError for one that is not of plain real numbers."""
    if tensor.dtype not in REAL or tensor.layout != torch.strided or tensor.is_meta:
        raise UserError(
            f"{source}: {name} is {tensor.dtype}, {tensor.layout}; an SAE has plain real numbers; {SAVE_REAL}"
        )
    return tensor.detach().float()


def _checked(
    source: str, encoder: Tensor, atoms: Tensor, bias: Tensor, settings: dict[str, Any], threshold: Tensor | None = None
) -> Dictionary:
    tensors = {"encoder": encoder, "atoms": atoms, "bias": bias}
    given = tensors if threshold is None else {**tensors, "threshold": threshold}
    if encoder.ndim != 2 or atoms.shape != encoder.shape or bias.shape != encoder.shape[1:]:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise UserError(f"{source}: its shapes do not fit each other: {shapes}; wanted (D, d), (D, d), (d,)")
    if threshold is not None and threshold.shape not in ((), (len(atoms),)):
        raise UserError(
            f"{source}: threshold has the shape {tuple(threshold.shape)}; wanted one number or ({len(atoms)},)"
        )
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
        if (beside := file.url.removesuffix(f"/{_CFG}")).lower().endswith(".safetensors"):
            raise UserError(
                f"{beside}: names a single file; give the folder of SAELens that holds {_CFG} and {_WEIGHTS}"
            ) from error
        raise UserError(
            f"{file.url}: there is no such file; an SAE is a .pt file of the reference, or a folder of SAELens with "
            f"{_CFG} and {_WEIGHTS}"
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, SaeftError):
            raise
        raise UserError(f"{file.url}: cannot be read ({said(error)})") from error
