"""What a sweep must know of its model and data, found out once before anything runs."""

from collections.abc import Iterator, Sequence

from saeft_ray.config.schema import SweepConfig
from saeft_ray.datasets import Dataset, NotSeen
from saeft_ray.datasets.images.files import some
from saeft_ray.datasets.words import alike
from saeft_ray.errors import UserError
from saeft_ray.methods.facts import Facts
from saeft_ray.storage.retry import HASTY, Waits


def in_haste(config: SweepConfig) -> SweepConfig:
    """The same sweep for whoever sits in front of the answer: what does not answer is waited for by seconds."""
    return config.model_copy(update={"data": config.data.at(config.storage.endpoint, HASTY)})


def find_facts(config: SweepConfig, planning: bool = False) -> Facts:
    """Looks at data and weights. Raises UserError for what is missing or does not fit; a plan may do with what is
    known of data that cannot be seen."""
    data, waits = config.data, config.data.waits
    problems = data.problems()
    unseen = tuple(problem for problem in problems if planning and isinstance(problem, NotSeen))
    if not problems:
        problems = [*_useless(data)]
    if len(unseen) < len(problems):
        raise UserError("data:" + "".join(f"\n  {problem}" for problem in problems))
    from saeft_ray.model import encoder, pretrained

    endpoint = config.storage.endpoint
    model, d = pretrained.identity(config.model, endpoint, waits), encoder.width(config.model)
    pretrained.check(config.model, endpoint, waits)
    facts = Facts(
        model=model,
        image_size=encoder.image_size(config.model),
        width=d,
        data=data.fingerprint(),
        sizes=data.sizes(),
        classes=len(data.class_names()),
        templates=len(data.prompts()),
        imported=_imported(config, model, d, waits) if config.dictionary.source else None,
        blocks=encoder.blocks(config.model),
        train=data.train_fingerprint(),
        search=data.search_fingerprint(),
        preprocessing=pretrained.preprocessing(config.model),
        unseen=unseen,
        notes=() if unseen else tuple(data.notes()),
    )
    unmet = [
        f"methods.{label}: {words}" for label, m in config.methods.items() for words in m.unmet_requirements(facts)
    ]
    unmet += encoder.unfit(config.model, config.compute)
    if not unseen:  # the words of data that was not seen may be any
        words = encoder.unreadable(config.model, data.prompts(), data.class_names())
        unmet += words or encoder.indistinct(config.model, data.prompts(), _plainly_different(data.class_names()))
    if unmet:
        raise UserError("\n".join(unmet))
    return facts


def _plainly_different(names: Sequence[str]) -> list[str]:
    """The names without those that are another's once more, which the data set has told itself, as ImageNet's."""
    again = {i for group in alike(names) for i in group[1:]}
    return [name for i, name in enumerate(names) if i not in again]


def _useless(data: Dataset) -> Iterator[str]:
    """What makes a comparison on `data` say nothing, whatever data set it is and has not told itself."""
    names, sizes = data.class_names(), data.sizes()
    if len(names) < 2:
        yield f"data: has {some(names) or 'no class'} and no other, so that every answer is right; give two or more"
    if empty := [name for name, size in sizes.items() if not size]:
        yield f"data: no images for {', '.join(empty)}; complete the data"


def _imported(config: SweepConfig, model: dict[str, str], d: int, waits: Waits) -> str:
    """The hash of the SAE that the sweep file names. Raises UserError if it does not fit."""
    from saeft_ray.sae import exchange

    found = exchange.open_named(config.dictionary, d, config.storage.endpoint, waits)
    if found.model not in (None, model):
        raise UserError(
            f"dictionary.from: {config.dictionary.source} was made for {found.model}, but this sweep fine-tunes {model}"
        )
    return found.sha256
