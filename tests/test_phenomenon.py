"""What digit world is for, with the shipped weights and fixed seeds: fine-tuning forgets, SAE-FT remembers.

Nothing here says that SAE-FT is better than MSE or a random dictionary: measured, it is not.
"""

import numpy as np
import pytest

from saeft_ray.records.read import read_rows

import sweeps


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory):
    """accuracy(method, dataset): the mean over two seeds, in percent."""
    methods = {"zero_shot": {}, "ft": {}, "sae_ft": {"lambda_resid": 300, "lambda_add": 300, "lambda_remove": 300}}
    config = sweeps.config(
        tmp_path_factory.mktemp("runs"),
        methods=methods,
        train={"epochs": 6, "batch_size": 128, "lr": 1e-3, "warmup": 0.15},
        dictionary={"width": 256, "k": 8, "steps": 800, "batch_size": 512},
    )
    _, ledger, _ = sweeps.run_here(config)
    rows = [row for row in read_rows(ledger.url).to_pylist() if row["metric"] == "accuracy"]

    def mean(method, dataset=None):
        found = [
            r["value"]
            for r in rows
            if r["method"] == method and (r["dataset"] == dataset or (dataset is None and r["role"] == "ood"))
        ]
        return 100 * float(np.mean(found))

    return mean


@pytest.mark.slow
def test_fine_tuning_gains_in_distribution_and_loses_on_sketches(accuracy):
    assert accuracy("ft", "ID") >= accuracy("zero_shot", "ID") + 2
    assert accuracy("ft", "Sketch") <= accuracy("zero_shot", "Sketch") - 5


@pytest.mark.slow
def test_sae_ft_keeps_in_distribution_accuracy_and_beats_fine_tuning_on_the_shifts(accuracy):
    assert accuracy("sae_ft", "ID") >= accuracy("ft", "ID") - 1
    assert accuracy("sae_ft") >= accuracy("ft") + 1
