"""`python -m saeft_ray.evaluate STORAGE TRIAL|--best METHOD|--all METHOD DATA`: scores end points on more images.

DATA is a folder of class folders or of tar shards, local or a URL, or the name of a set of the sweep. The rows are the
table `evaluations` of `python -m saeft_ray.results`; those of the sweep stay as they are.
"""

import argparse
import sys

from saeft_ray import door
from saeft_ray.orchestration.evaluate import best, evaluate, finished, images_of, named
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.reopen import reopen
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.trial_spec import TrialSpec
from saeft_ray.results import render


def main(arguments: list[str] | None = None, endpoint: str | None = None) -> int:
    """The door; `endpoint` is the S3 server (else the environment's). Exit status: 0, else as `door.guarded`."""
    parser = argparse.ArgumentParser(
        prog="python -m saeft_ray.evaluate",
        usage="%(prog)s [-h] STORAGE (TRIAL | --best METHOD | --all METHOD) DATA",
        description="Score stored end points on a new folder or a set of the sweep.",
    )
    parser.add_argument("storage", metavar="STORAGE", help="the sweep's folder or URL, as the sweep printed it")
    parser.add_argument(
        "given", metavar="TRIAL DATA", nargs="+", help="a trial of the confirm phase (not with --best or --all); then "
        "a folder with a folder for each class, or shards, local or a URL; or a set of the sweep by its name",
    )  # fmt: skip
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--best", metavar="METHOD", help="the confirm trial with the highest selection accuracy")
    which.add_argument(
        "--all", metavar="METHOD", action="append", default=[], help="every confirm trial of METHOD; `sweep` for all "
        "methods; may be given again",
    )  # fmt: skip
    options = parser.parse_intermixed_args(arguments)
    if len(options.given) != (1 if options.best or options.all else 2):
        parser.error("give TRIAL and DATA, or DATA with --best METHOD or --all METHOD")
    return door.guarded(lambda: _evaluate(options, endpoint))


def _evaluate(options: argparse.Namespace, endpoint: str | None) -> int:
    plan, ledger, store = reopen(options.storage, endpoint)
    specs, data = chosen(plan, ledger, options), options.given[-1]
    images = images_of(plan, data)
    if images.held < images.among:
        print(f"{data}: holds {images.held} of {images.among} classes; scored among all {images.among}")
    lines = []
    for scored in evaluate(plan, ledger, store, specs, images):
        for row in scored.rows.to_pylist():
            when = f"before, {row['time']}" if scored.before else "now"
            lines.append((row["method"], row["trial"], row["seed"], row["metric"], row["value"], row["n"], when))
    print(render(["method", "trial", "seed", "metric", "value", "n", "scored"], lines, "table"), end="")
    return 0


def chosen(plan: Plan, ledger: Ledger, options: argparse.Namespace) -> list[TrialSpec]:
    """The trials that the options name; says which is the best."""
    if options.best:
        spec, why = best(plan, ledger, options.best)
        print(why)
        return [spec]
    if options.all:
        labels = plan.config.methods if "sweep" in options.all else options.all
        return [spec for spec, _ in finished(plan, ledger, *dict.fromkeys(labels))]
    return [named(ledger, options.given[0])]


if __name__ == "__main__":
    sys.exit(main())
