# %% [markdown]
# A small sweep from Python: does fine-tuning forget? Run it as a script, or cell by cell in an editor that knows `%%`.
# Start Python with OMP_NUM_THREADS=1 for the numbers of the commands.

# %%
import numpy as np

import saeft_ray

sweep = saeft_ray.load(
    {
        "name": "from_python",
        "storage": "runs",
        "model": {"arch": "digit-clip", "pretrained": "shipped"},
        "data": {"type": "digit_world"},
        "train": {"epochs": 1, "batch_size": 128, "lr": 1e-3},
        "methods": {"zero_shot": {}, "ft": {}, "wise_ft": {"of": "ft", "alpha": 0.5}},
        "confirm": {"seeds": 1},
    }
)
print(sweep.plan())

# %% Run it here, without Ray. Stopped? The same cell continues.
sweep.run(local=True, quiet=True)

# %% Accuracies in %
for line in sweep.results().to_pylist():
    print(line)

# %% How far did fine-tuning move the embeddings of a test set that was never trained on?
frozen, tuned = sweep.embeddings("ft", "UCI")
cosine = (frozen * tuned).sum(1) / np.linalg.norm(frozen, axis=1) / np.linalg.norm(tuned, axis=1)
print(f"mean cosine of frozen and tuned embeddings: {cosine.mean():.3f}")

# %% The report
print(sweep.report().page)
