"""A long sweep of tiny trials on a Ray of its own while something is killed every so often.

    python benchmarks/soak.py [--trials 500] [--every 20] [--seed 0]

Every so many seconds a trial's process or, at one kill in five, the driver gets SIGKILL; a driver that was killed
is started again with the same command. At the end the rows are compared with those of a quiet run of the same sweep in
this process, and what must not be left behind is counted. Exit status 1 if anything is wrong.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from saeft_ray.ledger import Ledger
from saeft_ray.local import LocalRunner
from saeft_ray.plan import Plan
from saeft_ray.progress import Quiet
from saeft_ray.protocol import conduct
from saeft_ray.store import Store
from saeft_ray.sweep import find_facts
from saeft_ray.sweep_file import parse
from saeft_ray.table import read_rows


def sweep_of(storage: Path, trials: int) -> str:
    return yaml.safe_dump(
        {
            "name": "soak",
            "storage": str(storage),
            "model": {"arch": "digit-clip", "pretrained": "shipped"},
            "data": {"type": "digit_world"},
            "train": {"epochs": 1, "batch_size": 128, "lr": 1e-3},
            "methods": {"ft": {}, "mse": {"lambda_mse": 300}},
            "confirm": {"seeds": trials // 2},
        }
    )


def children(process: int) -> list[tuple[int, str]]:
    """Ids and titles of all that descend from `process`."""
    parents, titles = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    found, level = [], [process]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += [(child, titles[child]) for child in level]
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scratch = folder / "tmp"
        scratch.mkdir()
        file = folder / "soak.yaml"
        file.write_text(sweep_of(folder / "runs", options.trials))
        environment = {**os.environ, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)}
        command = [sys.executable, "-m", "saeft_ray.sweep", str(file), "--quiet"]
        killed, memory, handles, began = {"trial": 0, "driver": 0}, [], [], time.monotonic()
        driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        due, seen = time.monotonic() + options.every, set()
        while driver.poll() != 0:
            time.sleep(0.5)
            below = children(driver.pid)
            seen |= {process for process, _ in below}
            if driver.poll() is None:
                status = Path(f"/proc/{driver.pid}/status").read_text()
                memory.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
                handles.append(len(list(Path(f"/proc/{driver.pid}/fd").iterdir())))
            elif driver.returncode != -signal.SIGKILL:
                print(f"the driver ended with status {driver.returncode}")
                return 1
            else:
                driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            if time.monotonic() > due and driver.poll() is None:
                due = time.monotonic() + options.every * draw.uniform(0.5, 1.5)
                trials = [process for process, title in below if title.startswith("ray::ImplicitFunc")]
                if draw.random() < 0.2:
                    os.kill(driver.pid, signal.SIGKILL)
                    driver.wait()
                    killed["driver"] += 1
                elif trials:
                    os.kill(draw.choice(trials), signal.SIGKILL)
                    killed["trial"] += 1
        spent = time.monotonic() - began
        time.sleep(5)
        left = [process for process in seen if Path(f"/proc/{process}").exists()]
        folders = [path.name for path in scratch.glob("saeft_ray-*")]
        config = parse(sweep_of(folder / "quiet", options.trials))
        plan, store = Plan(config, find_facts(config)), Store(str(folder / "quiet"))
        ledger = Ledger(store, config.name)
        ledger.register(plan, None)
        conduct(plan, ledger, LocalRunner(plan, store, ledger), Quiet())
        equal = comparable(folder / "runs/sweeps/soak") == comparable(folder / "quiet/sweeps/soak")
    third = len(memory) // 3
    print(
        f"{options.trials} trials in {spent / 60:.1f} min, killed: {killed}; rows equal those of a quiet run: {equal}; "
        f"driver's memory {max(memory[:third]):.0f} MB in the first third, {max(memory[-third:]):.0f} MB in the last; "
        f"file handles {max(handles[:third])} and {max(handles[-third:])}; processes left {len(left)}; "
        f"temporary folders left {len(folders)} (of {killed['driver']} killed drivers)"
    )
    return 0 if equal and not left and len(folders) <= killed["driver"] else 1


def comparable(folder: Path) -> list[str]:
    return sorted(str(row) for row in read_rows(str(folder)).to_pylist() if row["metric"] != "seconds")


if __name__ == "__main__":
    sys.exit(main())
