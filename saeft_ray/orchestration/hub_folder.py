"""A folder that open_clip loads by itself, here as `local-dir:FOLDER` or from the Hugging Face hub.

open_clip_config.json        the architecture, and what is done to pixels
open_clip_model.safetensors  tuned image tower and frozen text tower
head.safetensors             the tuned head on embeddings of length 1: weight (C, d), bias (C,); classes in its metadata
words.txt                    the vocabulary of a model that open_clip has no tokenizer for
README.md                    the model card
"""

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from saeft_ray.errors import UserError
from saeft_ray.model.encoder import Classifier, ClipModel
from saeft_ray.model.word_tokenizer import WordTokenizer
from saeft_ray.orchestration.tuned import open_clip_model, same_weights
from saeft_ray.settings import Model

WEIGHTS = "open_clip_model.safetensors"


def check(folder: Path) -> None:
    """Raises UserError if `folder` cannot be written, or has something in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there already; give another name, or remove it")
    if not folder.absolute().parent.is_dir():
        raise UserError(f"{folder.parent}: no such folder; make it first")


def write_folder(
    tuned: Classifier, clip: ClipModel, model: Model, classes: Sequence[str], card: str, folder: Path
) -> None:
    """Writes `folder`, whole or not at all. Raises UserError as `check`, OSError if open_clip does not read back what
    was written."""
    import open_clip

    check(folder)
    whole = open_clip_model(tuned, clip)
    aside = folder.absolute().with_name(f".{folder.absolute().name}.{uuid.uuid4().hex[:8]}")
    aside.mkdir()
    try:
        architecture = json.loads(json.dumps(open_clip.get_model_config(model.arch)))
        architecture["vision_cfg"]["image_size"] = clip.image_size
        config = {"model_cfg": architecture, "preprocess_cfg": whole.visual.preprocess_cfg}
        (aside / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        state = {name: tensor.contiguous() for name, tensor in whole.state_dict().items()}
        save_file(state, aside / WEIGHTS, {"format": "pt"})
        head = {name: tensor.detach().contiguous() for name, tensor in tuned.head.state_dict().items()}
        save_file(head, aside / "head.safetensors", {"format": "pt", "classes": json.dumps(list(classes))})
        if isinstance(clip.tokenize, WordTokenizer):
            (aside / "words.txt").write_text("\n".join(clip.tokenize.vocabulary) + "\n", encoding="utf-8")
        elif save := getattr(clip.tokenize, "save_pretrained", None):  # one of Hugging Face's, which lies beside
            save(aside)
        (aside / "README.md").write_text(card, encoding="utf-8")
        if not same_weights(open_clip.create_model(f"local-dir:{aside}").state_dict(), state):
            raise OSError(f"{folder}: open_clip reads other weights than were written; nothing is kept")
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
