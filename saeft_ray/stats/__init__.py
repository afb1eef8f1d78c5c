"""Pure functions of numpy arrays: intervals, paired tests, corrections, power, two variance sources, looks,
equal strength, and the choice of a configuration.

No function here knows what a seed or a test set is: values are floats in any one unit, and every result is in that
unit. Where a number cannot be had (one value, no spread) the result says None, never NaN or infinity.
"""

from saeft_ray.stats.anytime import critical, e_value
from saeft_ray.stats.as_tuned import AsTuned, NoChoice, TunedDifference, as_tuned, dealt, tied, tuned_difference
from saeft_ray.stats.association import cramers_v
from saeft_ray.stats.crossed import Crossed, crossed, crossed_mean, seeds_until_items_dominate
from saeft_ray.stats.descriptive import Improvement, improvement, iqm, rho_interval
from saeft_ray.stats.equal_strength import AtEqualStrength, Contrast, Reason, Runs, at_equal_strength, runs
from saeft_ray.stats.multiplicity import benjamini_hochberg, holm, max_t
from saeft_ray.stats.paired import (
    MIN_PAIRS,
    Mean,
    Paired,
    against_published,
    mean_interval,
    paired,
    sign_flip,
    tost,
)
from saeft_ray.stats.pooled import LARGEST_RATIO, Pooled, pooled, residual_ratio
from saeft_ray.stats.power import break_even_rho, detectable, power, sd_range, smallest_n
from saeft_ray.stats.proportions import clopper_pearson, mcnemar
from saeft_ray.stats.robustness import Line, effective_robustness, front, hypervolume, inside
from saeft_ray.stats.schedule import boundaries, sequential_p, spending
from saeft_ray.stats.sequential import Design, Look, LookStep, flip_looks, p_at, replay, running_p, sign_paths
from saeft_ray.stats.strengths import OneCurve, Reach, at_equal_lambda, hypervolume_difference, one_curve, reach
from saeft_ray.stats.tuning import expected_best
from saeft_ray.stats.welch import Welch, welch

__all__ = [
    "LARGEST_RATIO",
    "MIN_PAIRS",
    "AsTuned",
    "AtEqualStrength",
    "Contrast",
    "Crossed",
    "Design",
    "Improvement",
    "Line",
    "Look",
    "LookStep",
    "Mean",
    "NoChoice",
    "OneCurve",
    "Paired",
    "Pooled",
    "Reach",
    "Reason",
    "Runs",
    "TunedDifference",
    "Welch",
    "against_published",
    "as_tuned",
    "at_equal_lambda",
    "at_equal_strength",
    "benjamini_hochberg",
    "boundaries",
    "break_even_rho",
    "clopper_pearson",
    "cramers_v",
    "critical",
    "crossed",
    "crossed_mean",
    "dealt",
    "detectable",
    "e_value",
    "effective_robustness",
    "expected_best",
    "flip_looks",
    "front",
    "holm",
    "hypervolume",
    "hypervolume_difference",
    "improvement",
    "inside",
    "iqm",
    "max_t",
    "mcnemar",
    "mean_interval",
    "one_curve",
    "p_at",
    "paired",
    "pooled",
    "power",
    "reach",
    "replay",
    "residual_ratio",
    "rho_interval",
    "running_p",
    "runs",
    "sd_range",
    "seeds_until_items_dominate",
    "sequential_p",
    "sign_flip",
    "sign_paths",
    "smallest_n",
    "spending",
    "tied",
    "tost",
    "tuned_difference",
    "welch",
]
