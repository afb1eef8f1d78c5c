"""`python -m saeft_ray.export STORAGE TRIAL|--best METHOD PLACE`: the model of a trial, for open_clip to load.

PLACE is FILE.safetensors, or hf:FOLDER for a folder that brings its architecture (`orchestration/hub_folder.py`).

FILE.safetensors        tuned image tower and frozen text tower, for open_clip.create_model(ARCH, pretrained=FILE)
FILE.head.safetensors   the tuned head on embeddings of length 1: weight (C, d), bias (C,); class names in its metadata
"""

import argparse
import json
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from saeft_ray import door
from saeft_ray.errors import UserError
from saeft_ray.model import pretrained
from saeft_ray.model.encoder import Classifier, ClipModel
from saeft_ray.model.word_tokenizer import WordTokenizer
from saeft_ray.orchestration import hub_folder
from saeft_ray.orchestration.evaluate import best, named
from saeft_ray.orchestration.model_card import model_card
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.orchestration.tuned import clip_of, open_clip_state, same_weights, tuned_classifier
from saeft_ray.settings import Model

HUB = "hf:"


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, else as `door.guarded`."""
    parser = argparse.ArgumentParser(
        prog="python -m saeft_ray.export",
        usage="%(prog)s [-h] STORAGE (TRIAL | --best METHOD) [FILE.safetensors | hf:FOLDER]",
        description="Write the model of a trial as open_clip loads it.",
    )
    parser.add_argument(
        "storage", metavar="STORAGE", help="the sweep's folder, as `python -m saeft_ray.sweep` printed it"
    )
    parser.add_argument(
        "given", metavar="TRIAL PLACE", nargs="*", help="a trial of the results table, of the confirm phase (not with "
        "--best); then a .safetensors file that is not there yet, or hf: and a folder that is not; default: "
        "TRIAL.safetensors",
    )  # fmt: skip
    parser.add_argument("--best", metavar="METHOD", help="the confirm trial with the highest selection accuracy")
    parser.add_argument("--to", metavar="PLACE", help="the same as PLACE")
    options = parser.parse_intermixed_args(arguments)
    trials = [] if options.best else options.given[:1]
    places = [*options.given[len(trials) :], *([options.to] if options.to else [])]
    if len(trials) != (not options.best) or len(places) > 1:
        parser.error("give TRIAL or --best METHOD, and one place to write to")
    return door.guarded(lambda: _export(options.storage, trials, options.best, places))


def _export(storage: str, trials: Sequence[str], method: str | None, places: Sequence[str]) -> int:
    plan, ledger, store = reopen(storage)
    if method:
        spec, why = best(plan, ledger, method)
        print(why)
    else:
        spec, why = named(ledger, trials[0]), "The trial was chosen by hand"
    place = places[0] if places else f"{spec.id}.safetensors"
    folder = Path(place.removeprefix(HUB)).expanduser() if place.startswith(HUB) else None
    if folder is None:
        _writable(Path(place))
    else:
        hub_folder.check(folder)
    tuned, clip, model = tuned_classifier(plan, spec, store), clip_of(plan), plan.config.model
    classes = plan.config.data.class_names()
    if folder is not None:
        card = model_card(plan, ledger, spec, why, isinstance(clip.tokenize, WordTokenizer))
        hub_folder.write_folder(tuned, clip, model, classes, card, folder)
        print(f"{folder}: open_clip.create_model('local-dir:{folder}') loads it, here and where this package is not")
        print(f"{folder / 'README.md'}: recipe and measured rows, to be read before the folder is published")
    else:
        file, seen = Path(place), clip.preprocessing
        head = write(tuned, clip, model, classes, file)
        print(f"{file}: {_reading(model, file)}")
        print(f"pictures: resize_mode {seen.resize_mode}, interpolation {seen.interpolation}")
        print(f"pixels in [0, 1] are normalised by mean {seen.mean} and standard deviation {seen.std}")
        print(f"{head}: the head, {len(tuned.head.weight)} classes")
    if spec.trained is not None and spec.trained.trains_text:
        print("the text tower is the frozen one: of the tuned one, a sweep keeps what the head has of it")
    return 0


def write(tuned: Classifier, clip: ClipModel, model: Model, classes: Sequence[str], file: Path) -> Path:
    """Writes both files, the second next to `file`, and returns its path. Raises UserError for a `file` that is there
    already, OSError if open_clip does not read back what was written."""
    from open_clip.factory import load_checkpoint

    head = _writable(file)
    state = open_clip_state(tuned, clip)
    pixels = {name: json.dumps(value) for name, value in clip.preprocessing._asdict().items()}
    _save(state, {"arch": model.arch, **pixels}, file)
    _save(tuned.head.state_dict(), {"arch": model.arch, "classes": json.dumps(list(classes))}, head)
    again = pretrained.bare(model)
    pretrained.resize(again, model)
    load_checkpoint(again, str(file))
    if not same_weights(again.state_dict(), state):
        raise OSError(f"{file}: open_clip reads other weights than were written; do not use it")
    return head


def _reading(model: Model, file: Path) -> str:
    """How open_clip loads `file`, in words."""
    if model.arch.startswith(pretrained.OWN):  # such an architecture brings its weights, whatever `pretrained` says
        return "save it in a folder as open_clip_model.safetensors, with the open_clip_config.json of the model"
    size = f", force_image_size={model.image_size}" if model.image_size else ""
    return f"open_clip.create_model({model.arch!r}, pretrained={str(file)!r}{size}) loads it"


def _writable(file: Path) -> Path:
    """The place of the head's file. Raises UserError if `file` or that cannot be written."""
    if file.suffix != ".safetensors":
        raise UserError(f"{file}: the name must end in .safetensors, by which open_clip knows how to read it")
    head = file.with_suffix(".head.safetensors")
    for each in (file, head):
        if each.exists():
            raise UserError(f"{each}: is there already; give another name, or remove it")
    if not file.parent.is_dir():
        raise UserError(f"{file.parent}: no such folder; make it first")
    return head


def _save(tensors: dict[str, Tensor], metadata: dict[str, str], file: Path) -> None:
    """Writes aside and renames, so that a file is whole or absent."""
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside, {"format": "pt", **metadata})
        aside.rename(file)
    finally:
        aside.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
