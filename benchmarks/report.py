"""What a report of 1,000 confirm trials costs, with every example's bit of seven test sets of ImageNet's sizes.

    python benchmarks/report.py [--methods 50] [--seeds 20]

Writes the rows of such a sweep, one file a trial, then calls the report's door in a process of its own: once for a
fixed number of seeds, where every interval for new images reads the bits, and once for a sweep that ran until decided,
whose looks are taken again. Prints seconds, seconds of a processor (what counts where others use the machine), and the
peak of resident memory of each.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from saeft_ray.records.preregistration import preregistration
from saeft_ray.records.rows import Row, pack, table
from saeft_ray.storage.checksum import KEY, mark, seal, to_json

SIZES = {
    "val": 50_000, "V2": 10_000, "R": 30_000, "A": 7_500, "Sketch": 50_889, "ObjectNet": 18_574, "C": 50_000,
}  # fmt: skip
LEVELS = {"val": 0.76, "V2": 0.65, "R": 0.55, "A": 0.30, "Sketch": 0.45, "ObjectNet": 0.50, "C": 0.60}
ROLES = {name: "id" if name == "val" else "ood" for name in SIZES}


def record(methods: int, seeds: int, until: bool) -> dict:
    names = ["ft", *(f"method_{m:02d}" for m in range(1, methods))]
    made = {
        "name": "large",
        "config": {
            "methods": {name: {"type": name} for name in names},
            "report": {"baseline": "ft", "alpha": 0.05, "margin": None if until else 0.002, "compare": []},
            "confirm": {"seeds": {"min": 5, "max": seeds} if until else seeds, "engine": "t", "overrun": 0},
        },
        "data": {"classes": 1000, "sizes": SIZES, "roles": ROLES},
        "confirm_seeds": list(range(1000, 1000 + seeds)),
    }
    return {**made, "registration": preregistration(made)}


def write(folder: Path, made: dict) -> int:
    """One rows.parquet a trial; methods differ from the baseline by 0 to 2 standard deviations of a seed."""
    (folder / "trials").mkdir(parents=True)
    registered = made.pop("registration")
    (folder / "sweep.json").write_bytes(to_json(made))
    (folder / "registration.json").write_bytes(to_json(registered))
    rng = np.random.default_rng(0)
    hard = {name: rng.random(n) for name, n in SIZES.items()}
    names = list(made["config"]["methods"])
    trials = 0
    for seed in made["confirm_seeds"]:
        shared = {name: rng.normal(0, 0.002) for name in SIZES}
        for m, method in enumerate(names):
            rows = []
            for name, n in SIZES.items():
                chance = LEVELS[name] + shared[name] + rng.normal(0, 0.002) + 0.004 * m / len(names)
                correct = hard[name] + rng.normal(0, 0.05, n) < chance
                rows.append(
                    Row(
                        sweep="large", phase="confirm", method=method, configuration=method, settings="{}", seed=seed,
                        trial=f"confirm-{method}-{seed}", dataset=name, role=ROLES[name], metric="accuracy",
                        value=float(correct.mean()), n=n, examples=name, correct=pack(correct),
                    )
                )  # fmt: skip
            (folder / "trials" / rows[0].trial).mkdir()
            buffer = io.BytesIO()
            pq.write_table(table(rows).replace_schema_metadata({KEY: mark()}), buffer)
            (folder / "trials" / rows[0].trial / "rows.parquet").write_bytes(seal(buffer.getvalue()))
            trials += 1
    return trials


def measure(folder: Path) -> tuple[float, float, float]:
    """Seconds, seconds of a processor, and GB of the report's process."""
    start = time.perf_counter()
    done = subprocess.Popen(
        [sys.executable, "-m", "saeft_ray.report", str(folder), "--quiet"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(done.pid, 0)
    if status:
        raise SystemExit(f"the report ended with {status}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    for until in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "large"
            trials = write(folder, record(options.methods, options.seeds, until))
            seconds, busy, memory = measure(folder)
            what = f"{trials} trials x {len(SIZES)} test sets, {'until decided' if until else 'fixed seeds'}"
            print(f"{what}: {seconds:.1f} s ({busy:.1f} s of a processor), peak {memory:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
