"""README.md of an exported model: what it is, how it was made, what was measured, and whose rights are in it."""

import json
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import yaml

from saeft_ray.orchestration.plan import Plan
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.rows import Row
from saeft_ray.records.trial_spec import TrialSpec

_USE = """```python
import json

import open_clip
import torch
from PIL import Image
from safetensors import safe_open

FOLDER = "."  # where this file is
model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
with safe_open(f"{FOLDER}/head.safetensors", "pt") as head:
    weight, bias = head.get_tensor("weight"), head.get_tensor("bias")
    classes = json.loads(head.metadata()["classes"])
with torch.no_grad():
    features = model.eval().encode_image(preprocess(Image.open("image.jpg")).unsqueeze(0))
    logits = torch.nn.functional.normalize(features, dim=-1) @ weight.T + bias
print(classes[logits.argmax()])
```"""


def model_card(plan: Plan, ledger: Ledger, spec: TrialSpec, why: str, words: bool) -> str:
    """The card of what `spec` ended in. `why` says how the trial was chosen; `words`: the folder has a vocabulary of
    its own, which open_clip's tokenizer does not know. Paths stay out of it: the card is made to be published."""
    config = plan.config
    rows = _rows(ledger, spec.id)
    head = {"library_name": "open_clip", "license": "other", "tags": ["clip", "saeft_ray", spec.method]}
    text = "that of the pretrained model"
    if spec.trained is not None and spec.trained.trains_text:
        text += ": of the tuned one, a sweep keeps what the head has of it"
    if words:
        text += ". Its words are in `words.txt`, a line for each token; open_clip's own tokenizer does not fit it"
    recipe: dict[str, Any] = {
        "model": plan.facts.model,
        "method": spec.values,
        "seed": spec.seed,
        "train": config.train.model_dump(mode="json"),
        "versions": ledger.record().get("versions", {}),
    }
    if spec.trained is not None and spec.trained.dictionary_kind:
        made = config.dictionary.model_dump(mode="json", exclude={"source"})
        recipe["dictionary"] = made | ({"imported": plan.facts.imported} if plan.facts.imported else {})
    sections = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {_word(config.name)}: {_word(spec.method)}",
        f"The image tower that the trial `{spec.id}` fine-tuned, with its head. The text tower is {text}. {why}.",
        "## Use",
        _USE,
        "## Recipe",
        f"```json\n{json.dumps(recipe, indent=1, ensure_ascii=False)}\n```",
        "## Data",
        f"{plan.facts.classes} classes; {plan.facts.sizes['train']:,} training images of the type "
        f"`{getattr(config.data, 'type', '')}`, whose fingerprint is `{plan.facts.data}`. "
        f"Test sets: {', '.join(f'{_word(name)} ({role})' for name, role in config.data.test_sets().items())}.",
        "## Measured",
        _measured(rows, _of_all_seeds(ledger, spec)),
        "## Licence",
        "This card and the code that trained the model (saeft_ray) are under Apache 2.0. The weights are made from the "
        "pretrained ones above and from the images above, whose owners' terms hold for them as well; look these up "
        "before you publish.",
    ]
    return "\n\n".join(sections) + "\n"


def _measured(rows: Sequence[Row], of_all: Sequence[Row]) -> str:
    """A line for each set and metric: of this trial, and the mean over the seeds with its settings."""
    if not rows:
        return "Nothing was measured of this trial yet."
    lines = [
        "| set | role | metric | this model | mean with these settings | seeds | images |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        same = [r.value for r in of_all if (r.dataset, r.metric) == (row.dataset, row.metric) and r.value is not None]
        value = "failed" if row.value is None else f"{row.value:.4f}"
        mean = f"{fmean(same):.4f}" if same else ""
        cells = (row.dataset, row.role, row.metric, value, mean, str(len(same)), str(row.n or ""))
        lines.append("| " + " | ".join(map(_word, cells)) + " |")
    after = (
        "Accuracies are fractions. What the method gives is the mean over seeds; one chosen model may lie beside it."
    )
    return "\n".join(lines) + f"\n\n{after}"


def _rows(ledger: Ledger, trial: str) -> list[Row]:
    try:
        return [row for row in ledger.all_rows(trial) if row.role != "train"]
    except FileNotFoundError:
        return []


def _of_all_seeds(ledger: Ledger, spec: TrialSpec) -> list[Row]:
    ended: Iterable[str] = ledger.finished()
    same = [s.id for s in ledger.asked(spec.phase) if s.configuration == spec.configuration and s.id in ended]
    return [row for trial in same for row in _rows(ledger, trial)]


def _word(text: str) -> str:
    """A name as text of a line of Markdown."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", r"\|").replace("`", "'").replace("<", "&lt;")
