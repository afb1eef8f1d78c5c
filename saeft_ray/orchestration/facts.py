"""What a sweep must know of its model and data, found out once before anything runs."""

import os

from saeft_ray.config.schema import SweepConfig
from saeft_ray.datasets import NotSeen
from saeft_ray.errors import UserError
from saeft_ray.methods.facts import Facts


def find_facts(config: SweepConfig, planning: bool = False) -> Facts:
    """Looks at data and weights. Raises UserError for what is missing or does not fit; a plan may do with what is
    known of data that cannot be seen."""
    if config.storage.endpoint:
        os.environ["AWS_ENDPOINT_URL"] = config.storage.endpoint  # for everything that reads the sweep, here and on Ray
    problems = config.data.problems()
    unseen = tuple(problem for problem in problems if planning and isinstance(problem, NotSeen))
    if len(unseen) < len(problems):
        raise UserError("data:" + "".join(f"\n  {problem}" for problem in problems))
    from saeft_ray.model import encoder

    model, d = encoder.identity(config.model, config.storage.endpoint), encoder.width(config.model)
    facts = Facts(
        model=model,
        image_size=encoder.image_size(config.model),
        width=d,
        data=config.data.fingerprint(),
        sizes=config.data.sizes(),
        classes=len(config.data.class_names()),
        templates=len(config.data.prompts()),
        imported=_imported(config, model, d) if config.dictionary.source else None,
        blocks=encoder.blocks(config.model),
        train=config.data.train_fingerprint(),
        unseen=unseen,
    )
    unmet = [
        f"methods.{label}: {words}" for label, m in config.methods.items() for words in m.unmet_requirements(facts)
    ]
    unmet += encoder.unfit(config.model, config.compute)
    if unmet:
        raise UserError("\n".join(unmet))
    return facts


def _imported(config: SweepConfig, model: dict[str, str], d: int) -> str:
    """The hash of the SAE that the sweep file names. Raises UserError if it does not fit."""
    from saeft_ray.sae import exchange

    found = exchange.open_named(config.dictionary, d, config.storage.endpoint)
    if found.model not in (None, model):
        raise UserError(
            f"dictionary.from: {config.dictionary.source} was made for {found.model}, but this sweep fine-tunes {model}"
        )
    return found.sha256
