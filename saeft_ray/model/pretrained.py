"""Which weights a sweep's model has, whether they fit it, and how pictures reach it: known before any are loaded."""

import difflib
import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from saeft_ray.errors import SaeftError, Unavailable, UserError
from saeft_ray.model.tensor_files import REAL, SAVE_REAL, listed, listed_arrays, said
from saeft_ray.settings import Model, Preprocessing
from saeft_ray.storage.fingerprint import fingerprint
from saeft_ray.storage.location import Location
from saeft_ray.storage.retry import WAITS, Waits

SHIPPED = Path(__file__).parent / "shipped"
_HALF = (0.5, 0.5, 0.5)  # the weights in this package were trained on pixels scaled to [-1, 1]
OWN = _HUB, _FOLDER = "hf-hub:", "local-dir:"  # architectures that bring their weights
_CONFIG = "open_clip_config.json"
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
_USUAL = ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model")  # weights of a folder, by name
_log = logging.getLogger(__name__)


def identity(model: Model, endpoint: str | None = None, waits: Waits = WAITS) -> dict[str, str]:
    """Returns what determines the embeddings: architecture, the tag or the hash of the weights in use (or an object's
    ETag), and where it is not open_clip's usual one, what is done to pictures.

    Raises UserError for an unknown architecture, a file of weights that is not there, or two different ones.
    """
    config = architecture(model)
    arch = {"arch": model.arch}
    if own := _own(model):
        name = model.arch if model.arch.startswith(_HUB) else _FOLDER[:-1]
        arch = {"arch": name, "config": fingerprint(config, 12)}
    found = source(model)
    if found is None:
        return {**arch, "weights": str(model.pretrained), **_pixels(model)}
    file = Location(found, endpoint, waits)
    try:
        digest = file.info().tag.strip('"') or _sha256(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(_absent(found)) from error
    except IsADirectoryError as error:
        raise UserError(f"model.pretrained: {found} is a folder; give the file of weights in it") from error
    except (OSError, ValueError) as error:
        if isinstance(error, SaeftError):
            raise
        raise UserError(f"model.{'arch' if own else 'pretrained'}: {found} cannot be read ({said(error)})") from error
    return {**arch, "weights": digest, **_pixels(model)}


def preprocessing(model: Model) -> Preprocessing:
    """What is done to pictures: as the settings say, else as the tag or the folder does, else as all tags of this
    architecture do. Raises UserError for what open_clip cannot do."""
    if own := _own(model):
        native: Mapping[str, Any] = own.get("preprocess_cfg") or {}
    elif model.pretrained == "shipped":
        native = {"mean": _HALF, "std": _HALF}
    else:
        native = _of_tags(model)
    chosen = {name: value for name in Preprocessing._fields if (value := native.get(name)) is not None}
    if chosen.get("interpolation") == "random":  # open_clip draws one in training, and evaluates with this
        chosen["interpolation"] = "bicubic"
    chosen |= {name: value for name in Preprocessing._fields if (value := getattr(model, name, None)) is not None}
    try:
        return TypeAdapter(Preprocessing).validate_python(chosen)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"model.arch: {model.arch} says {place}: {first['input']!r}, which cannot be done ({first['msg']})"
        ) from error


def check(model: Model, endpoint: str | None = None, waits: Waits = WAITS) -> None:
    """Raises UserError if a local file of weights cannot be read or does not fit; loads none of it."""
    found = source(model)
    if found is not None and model.pretrained != "shipped" and (file := Location(found, endpoint, waits)).local:
        with torch.device("meta"):
            refuse_misfit(bare(model, "meta"), model, Path(file.url))


def refuse_misfit(clip: Any, model: Model, file: Path) -> None:
    """Raises UserError, which names the first tensor, if the weights in the local `file` are not exactly those that
    the module `clip` of the architecture has."""
    try:
        if file.suffix in (".npz", ".npy"):
            words = _misfit_of_big_vision(listed_arrays(file), model)
        else:
            words = _misfit(clip, listed(file), model)
    except UserError as error:
        raise UserError(f"model.pretrained: {error}") from error
    except Exception as error:  # open_clip's conversion of names trips over names of another kind
        words = said(error)
    if words:
        raise UserError(
            f"model.pretrained: {file} cannot be loaded as {model.arch}: {words}; give weights of this architecture, "
            "or the architecture of these weights"
        )


def bare(model: Model, device: str = "cpu") -> Any:
    """open_clip's module of the architecture with initial weights, the same each time."""
    import open_clip

    torch.manual_seed(0)
    size = None if _is_timm(model) else model.image_size  # timm's towers are resized once they have their weights
    try:
        with _without_the_warning_of_no_weights():
            return open_clip.create_model(
                model.arch, load_weights=False, pretrained_text=False, force_image_size=size, device=device
            )
    except Exception as error:
        if not model.arch.startswith(OWN):
            raise
        raise UserError(f"model.arch: open_clip cannot build what {model.arch} describes ({said(error)})") from error


def resize(clip: Any, model: Model) -> None:
    """Brings a tower of timm, whose weights are in, to the size that the settings ask for; `bare` did for others."""
    if model.image_size and _is_timm(model):
        clip.visual.set_input_size(model.image_size)


@contextmanager
def opened(model: Model, endpoint: str | None, waits: Waits) -> Iterator[Path | None]:
    """Gives the local file of weights; None for random ones."""
    if model.pretrained == "random":
        yield None
        return
    found = source(model)
    if found is None:
        yield _fetched_tag(model)
        return
    file = Location(found, endpoint, waits)
    if not file.exists():
        raise UserError(_absent(found))
    if file.local:
        yield Path(file.url)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, file.name)
        file.fetch(local)
        yield local


def source(model: Model) -> str | None:
    """The file or URL that holds the weights; None for a tag of open_clip and for random weights.

    Raises UserError where `pretrained` names other weights than those that the architecture brings.
    """
    if _own(model) is not None:
        file = _brought(model)
        given = model.pretrained
        if given is not None and Path(given).resolve() not in (file.resolve(), file.resolve().parent):
            raise UserError(
                f"model.pretrained: found {given!r}, but {model.arch} brings its own weights ({file.name}), and these "
                "are used; leave pretrained out"
            )
        return str(file)
    if model.pretrained is None:
        raise UserError(
            "model.pretrained: is missing; give a tag of open_clip, a file or a URL of weights, shipped or random"
        )
    if model.pretrained == "shipped":
        return str(SHIPPED / f"{model.arch}.safetensors")
    return None if model.pretrained == "random" or _is_tag(model) else model.pretrained


def architecture(model: Model) -> dict[str, Any]:
    """open_clip's config of the architecture. Raises UserError for an unknown one."""
    import open_clip

    _register()
    if own := _own(model):
        config: dict[str, Any] = own["model_cfg"]
        return config
    known: dict[str, Any] | None = open_clip.get_model_config(model.arch)
    if known is None:
        close = difflib.get_close_matches(model.arch, open_clip.list_models(), n=3)
        raise UserError(
            f"model.arch: open_clip knows no {model.arch!r}"
            + (f"; did you mean {' or '.join(close)}?" if close else "; see open_clip.list_models()")
        )
    other = f"{model.arch}-quickgelu"
    tag = open_clip.get_pretrained_cfg(model.arch, model.pretrained) if model.pretrained else {}
    if tag.get("quick_gelu") and not known.get("quick_gelu") and open_clip.get_model_config(other):
        # open_clip only warns, and the model then sees with the wrong activation function.
        raise UserError(
            f"model.arch: the weights {model.pretrained} were trained as {other}, not {model.arch}; give that"
        )
    return known


# Details -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _register() -> None:
    import open_clip

    open_clip.add_model_config(SHIPPED)


@contextmanager
def _without_the_warning_of_no_weights() -> Iterator[None]:
    """The weights come after the module here, and open_clip would say each time that there are none."""

    def told(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No pretrained weights loaded")

    root = logging.getLogger()  # open_clip logs there
    root.addFilter(told)
    try:
        yield
    finally:
        root.removeFilter(told)


def _own(model: Model) -> dict[str, Any] | None:
    """The config in the folder or repository of a model that brings its weights; None for a name of open_clip's."""
    if not model.arch.startswith(OWN):
        return None
    try:
        config = json.loads(_file_of(model, _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, SaeftError):
            raise
        raise UserError(f"model.arch: {model.arch} has no {_CONFIG} that can be read ({said(error)})") from error
    inner = config.get("model_cfg") if isinstance(config, dict) else None
    sections = [inner.get(name) for name in ("vision_cfg", "text_cfg")] if isinstance(inner, dict) else []
    whole = len(sections) == 2 and all(isinstance(each, dict) for each in (*sections, config.get("preprocess_cfg", {})))
    if not whole or not isinstance(inner, dict) or not isinstance(inner.get("embed_dim"), int):
        raise UserError(
            f"model.arch: {model.arch}: {_CONFIG} has no model_cfg with embed_dim, vision_cfg and text_cfg; give a "
            "model that open_clip saved"
        )
    found: dict[str, Any] = config
    return found


def _file_of(model: Model, name: str | None) -> Path:
    """A file of the repository or folder; of a repository, its weights if `name` is None."""
    if model.arch.startswith(_FOLDER):
        return Path(model.arch.removeprefix(_FOLDER)) / (name or "")
    return _of_hub(model.arch, name)


@lru_cache(maxsize=8)
def _of_hub(arch: str, name: str | None) -> Path:
    from open_clip.pretrained import download_pretrained_from_hf

    try:
        return Path(download_pretrained_from_hf(arch.removeprefix(_HUB), **({"filename": name} if name else {})))
    except Exception as error:  # the hub's client raises many types
        raise Unavailable(
            f"model.arch: {name or 'the weights'} of {arch} could not be fetched ({said(error)}); let this machine "
            "reach the hub, correct the name, or give a folder as local-dir:FOLDER"
        ) from error


def _brought(model: Model) -> Path:
    """The weights of a model that brings them."""
    if model.arch.startswith(_HUB):
        return _file_of(model, None)
    folder = _file_of(model, "")
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    usual = [folder / f"{stem}{suffix}" for stem in _USUAL for suffix in _SUFFIXES]
    named = [path for path in usual if path in found]
    if not named and len(found) != 1:
        what = f"several files of weights ({', '.join(path.name for path in found)})" if found else "no weights"
        raise UserError(f"model.arch: {model.arch} holds {what}; keep them there as {_USUAL[0]}.safetensors")
    return (named or found)[0]


def _fetched_tag(model: Model) -> Path:
    import open_clip
    from open_clip.pretrained import download_pretrained

    try:
        return Path(download_pretrained(open_clip.get_pretrained_cfg(model.arch, model.pretrained)))
    except Exception as error:  # as many types as there are places to fetch from
        raise Unavailable(
            f"model.pretrained: {model.pretrained} of {model.arch} could not be fetched ({said(error)}); let this "
            "machine reach its source, or give a file or URL of the weights"
        ) from error


def _is_tag(model: Model) -> bool:
    import open_clip

    return model.pretrained in open_clip.list_pretrained_tags_by_model(model.arch)


def _is_timm(model: Model) -> bool:
    return bool(architecture(model)["vision_cfg"].get("timm_model_name"))


def _of_tags(model: Model) -> dict[str, Any]:
    """What the tag does to pictures; for weights without one, what all tags of the architecture agree on."""
    import open_clip

    tags = [str(model.pretrained)] if _is_tag(model) else open_clip.list_pretrained_tags_by_model(model.arch)
    fast = architecture(model).get(
        "quick_gelu", False
    )  # other weights are not of this architecture, whatever is listed
    every = [open_clip.get_pretrained_cfg(model.arch, tag) for tag in tags]
    known = [tag for tag in every if tag.get("quick_gelu", False) == fast]
    agreed: dict[str, Any] = {}
    for name, usual in Preprocessing()._asdict().items():
        values = [tag.get(name) if tag.get(name) is not None else usual for tag in known]
        if len(set(values)) > 1 and getattr(model, name, None) is None:
            _log.warning(
                "model.%s: weights of %s differ in it (%s), and %s is not said to be any of them; %s is taken",
                *(name, model.arch, ", ".join(sorted(map(str, set(values)))), model.pretrained, usual),
            )
        elif len(set(values)) == 1:
            agreed[name] = values[0]
    return agreed


def _pixels(model: Model) -> dict[str, str]:
    """What is done to pictures, as far as neither a tag nor open_clip's defaults say it."""
    seen, usual = preprocessing(model), Preprocessing()
    named = model.pretrained == "shipped" or (_own(model) is None and _is_tag(model))
    mean = model.mean or (None if named or seen.mean == usual.mean else seen.mean)
    std = model.std or (None if named or seen.std == usual.std else seen.std)
    told = {"mean": str(mean), "std": str(std)} if mean or std else {}
    if model.image_size:
        told["image_size"] = str(model.image_size)
    others = Preprocessing._fields[2:]
    return told | {name: str(getattr(seen, name)) for name in others if getattr(seen, name) != getattr(usual, name)}


def _misfit(clip: Any, state: dict[str, Tensor], model: Model) -> str:
    """Why `state` is not the weights of `clip`, in words, as open_clip would load them; empty if it is."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(clip, state)
    if "positional_embedding" in state and not hasattr(clip, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    wanted = clip.state_dict()
    for name in ("text.transformer.embeddings.position_ids", *(() if "logit_bias" in state else ("logit_bias",))):
        wanted.pop(name, None)  # open_clip drops the one and adds the other, which no embedding depends on
        state.pop(name, None)
    missing, unused = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    words = [
        *([f"it lacks {missing[0]}{_more(missing)}"] if missing else []),
        *([f"it holds {unused[0]}{_more(unused)}, which this architecture does not have"] if unused else []),
    ]
    if words:
        return " and ".join(words)
    for name, tensor in state.items():
        if wanted[name].is_floating_point() and tensor.dtype not in REAL:
            return f"{name} is {str(tensor.dtype).removeprefix('torch.')}, of which weights cannot be read; {SAVE_REAL}"
        its, ours = tuple(tensor.shape), tuple(wanted[name].shape)
        if its == ours or (name in ("logit_scale", "logit_bias") and tensor.numel() == wanted[name].numel()):
            continue
        if name.endswith("positional_embedding") and len(its) == len(ours) and its[1:] == ours[1:]:
            if name == "visual.positional_embedding" and model.image_size:
                continue
            return f"{name} is {its}, not {ours}: they were trained at another size, and would be interpolated" + (
                " (model.image_size asks for that)" if name.startswith("visual.") else ""
            )
        return f"{name} is {its}, not {ours}"
    return ""


def _misfit_of_big_vision(names: list[str], model: Model) -> str:
    """The same for the names in a file of big_vision, whose tensors only open_clip can place."""
    if not _is_timm(model):
        return "a .npz holds weights of big_vision, which are for towers of timm such as those of SigLIP"
    return "" if any(name.startswith("params/img/") for name in names) else "it lacks params/img/ of big_vision"


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _absent(found: str) -> str:
    return f"model.pretrained: there is no file {found}; give a tag of open_clip, a file or a URL"


def _sha256(file: Location) -> str:
    digest = hashlib.sha256()
    for part in file.parts():
        digest.update(part)
    return digest.hexdigest()
