"""A long sweep of tiny trials on a Ray that stays, while something is killed every so often.

    python benchmarks/soak.py [--trials 500] [--every 20] [--seed 0]

Ray is three machines on loopback: a head without CPUs and two of one CPU each. Every so many seconds SIGKILL meets a
trial's process or, each at one kill in seven, the driver, which is started again with the same command, or all of a
machine, which another replaces. What is left behind then is counted: on Ray, in /proc, and among temporary files, whose
folder is this run's own. A quiet run of the same sweep in this process has to have the same rows. Exit status 1, and a
line each, for what is wrong.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

HOME = Path(tempfile.mkdtemp(prefix="soak-"))
SCRATCH = HOME / "tmp"  # Ray's own folder goes there too, where no other driver finds it
SCRATCH.mkdir()
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # else a driver takes 127.0.0.1 for the address of its eth0
os.environ |= {"TMPDIR": str(SCRATCH), "OMP_NUM_THREADS": "1", **LOOPBACK}
tempfile.tempdir = None

from saeft_ray.on_ray.runner import SETTINGS  # noqa: E402

os.environ |= SETTINGS  # for the machines too, which are started before a runner is
import numpy as np  # noqa: E402
import psutil  # noqa: E402 - Ray carries it
from ray.cluster_utils import Cluster  # noqa: E402
from ray.util.state import list_actors, list_placement_groups  # noqa: E402

from saeft_ray.config.sweep_file import parse  # noqa: E402
from saeft_ray.orchestration.facts import find_facts  # noqa: E402
from saeft_ray.orchestration.local import LocalRunner  # noqa: E402
from saeft_ray.orchestration.phases import run_phases  # noqa: E402
from saeft_ray.orchestration.plan import Plan  # noqa: E402
from saeft_ray.orchestration.progress import Quiet  # noqa: E402
from saeft_ray.orchestration.reopen import record_of  # noqa: E402
from saeft_ray.records.ledger import Ledger  # noqa: E402
from saeft_ray.records.read import read_rows  # noqa: E402
from saeft_ray.storage.store import Store  # noqa: E402

SLOPE = 150  # kB of the driver's memory that a trial may cost: Tune keeps what it knows of each, about 50
SERVER = re.compile(r"\S+/(gcs_server|raylet) ")
HANDLES = 20  # open files that may come and go


SWEEP = """
name: soak
storage: {storage}
model: {{arch: digit-clip, pretrained: shipped}}
data: {{type: digit_world}}
train: {{epochs: 1, batch_size: 128, lr: 0.001}}
methods: {{ft: {{}}, mse: {{lambda_mse: 300}}}}
confirm: {{seeds: {seeds}}}
"""


class Machines:
    """Ray on loopback: a head that runs no trials, and two machines that do."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": 0}
        self._cluster = Cluster(initialize_head=True, head_node_args={"node_ip_address": "127.0.0.1", **head})
        self._nodes = [self._another() for _ in range(2)]
        self.address, self.shutdown = self._cluster.address, self._cluster.shutdown

    def _another(self) -> Any:
        return self._cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")

    def lose(self, which: int) -> None:
        """Kills all of one machine; another takes its place."""
        self._cluster.remove_node(self._nodes[which], allow_graceful=False)
        self._nodes[which] = self._another()

    def states(self) -> tuple[list[str], list[str]]:
        """Of all actors and all placement groups that there ever were."""
        at: dict[str, Any] = {"address": f"http://{self._cluster.webui_url}", "limit": 10_000}
        return [one.state for one in list_actors(**at)], [one.state for one in list_placement_groups(**at)]


class Record:
    """What is seen of a disturbed run."""

    def __init__(self, storage: Path):
        self.trials = storage / "sweeps/soak/trials"
        self.lives: list[list[tuple[int, int, int]]] = []  # of each driver: trials ended, bytes of memory, open files
        self.servers: list[int] = []  # open files of the GCS and the three raylets
        self.written: dict[Path, tuple[int, int]] = {}  # files that are written once, as first seen
        self.processes: dict[psutil.Process, str] = {}  # Ray's workers and agents, with their titles
        self.dealt: set[Path] = set()  # a folder of Tune's for each time that a trial was dealt, made before it begins
        self.again: list[str] = []  # trials tried once more although they had ended

    def look(self, driver: int, processes: dict[psutil.Process, str]) -> None:
        dealt = set(SCRATCH.glob("ray/session_*/artifacts/*/confirm/driver_artifacts/confirm-*")) - self.dealt
        names = [folder.name.rpartition("-")[0] for folder in dealt]
        self.again += [name for name in names if self.trials / name / "rows.parquet" in self.written]
        self.dealt |= dealt
        found = [*self.trials.glob("*/spec.json"), *self.trials.glob("*/rows.parquet")]
        self.written |= {path: stamp(path) for path in found if path not in self.written}
        self.processes |= {process: title for process, title in processes.items() if title.startswith("ray::")}
        servers = [process for process, title in processes.items() if SERVER.match(title)]
        with suppress(psutil.Error):  # it has just ended
            self.servers.append(sum(process.num_fds() for process in servers))
            process, ended = psutil.Process(driver), sum(path.name == "rows.parquet" for path in found)
            self.lives[-1].append((ended, process.memory_info().rss, process.num_fds()))

    def alive(self) -> list[str]:
        """Processes that should have gone: all but the agents of the machines that are there."""
        there = {process for process, title in children().items() if title.endswith("Agent")}
        return [title for process, title in self.processes.items() if process.is_running() and process not in there]


def children() -> dict[psutil.Process, str]:
    """All that descend from this process, with their titles."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            found[process] = " ".join(process.cmdline()).strip()
    return found


def stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def soak(storage: Path, machines: Machines, options: argparse.Namespace) -> list[str]:
    """Runs the sweep to its end with kills, prints figures, returns what is wrong."""
    draw, record, killed = random.Random(options.seed), Record(storage), Counter[str]()
    file, log = HOME / "soak.yaml", (HOME / "log").open("a+", buffering=1)
    file.write_text(SWEEP.format(storage=storage, seeds=options.trials // 2))

    def start() -> subprocess.Popen[bytes]:
        record.lives.append([])
        command = [sys.executable, "-m", "saeft_ray.sweep", str(file), "--quiet"]
        environment = {**os.environ, "RAY_ADDRESS": machines.address}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)

    began, before = time.monotonic(), set(SCRATCH.iterdir())
    driver, due = start(), began + options.every
    while driver.poll() is None:
        processes = children()
        record.look(driver.pid, processes)
        trials = [process for process, title in processes.items() if title.startswith("ray::Trial")]
        if trials and time.monotonic() > due:
            due = time.monotonic() + options.every * draw.uniform(0.5, 1.5)
            what = draw.choices(("trial", "driver", "machine"), (5, 1, 1))[0]
            killed[what] += 1
            log.write(f"killed: {what}\n")
            if what == "driver":
                driver.kill()
                driver.wait()
                driver = start()
            elif what == "machine":
                machines.lose(draw.randrange(2))
            else:
                with suppress(psutil.Error):
                    draw.choice(trials).kill()
        time.sleep(0.5)
    minutes, deadline = (time.monotonic() - began) / 60, time.monotonic() + 60
    while True:
        actors, groups = machines.states()
        left = [*set(actors) - {"DEAD"}, *set(groups) - {"REMOVED"}, *record.alive()]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(1)
    folders = [path.name for path in set(SCRATCH.iterdir()) - before if path.name.startswith("saeft_ray-")]
    life = np.array(max(record.lives, key=lambda life: life[-1][0] - life[0][0] if life else 0))
    life = life[len(life) // 10 :]  # without its start
    seen, third = np.ptp(life[:, 0]), len(life) // 3 + 1
    slope = np.polyfit(life[:, 0], life[:, 1] / 1000, 1)[0] if seen > 50 else 0.0
    (memory, files), (memory_then, files_then) = life[:third, 1:].max(0), life[-third:, 1:].max(0)
    third = len(record.servers) // 3 + 1
    ray_files, ray_files_then = max(record.servers[:third]), max(record.servers[-third:])
    rewritten = [path for path, first in record.written.items() if not path.exists() or stamp(path) != first]
    log.seek(0)
    said = log.read()
    causes = Counter(re.findall(r"WARNING confirm-.*?: ([a-z]+) [(]", said))
    print(
        f"{options.trials} trials in {minutes:.1f} min, dealt {len(record.dealt)} times; killed: {dict(killed)}, told: "
        f"{dict(causes)}. Of {len(record.lives)} drivers the longest saw {seen} trials end, with {memory / 1e6:.0f} MB "
        f"at most in its first third, {memory_then / 1e6:.0f} MB in its last, {slope:.0f} kB a trial, {files} and "
        f"{files_then} open files; servers of Ray {ray_files} and {ray_files_then}. Left of {len(actors)} actors, "
        f"{len(groups)} placement groups and {len(record.processes)} processes of Ray: {left or 'none'}. Temporary "
        f"folders left: {len(folders)}; files half written: {len(list(storage.rglob('.tmp-*')))}, written again: "
        f"{len(rewritten)}."
    )
    checks = [
        (driver.returncode, f"the driver ended with {driver.returncode}: {said[-2000:]}"),
        (left, f"left on Ray: {left}"),
        (
            ray_files_then > ray_files + HANDLES,
            f"open files of Ray's servers grow from {ray_files} to {ray_files_then}",
        ),
        (len(folders) > killed["driver"], f"{len(folders)} temporary folders of {killed['driver']} killed drivers"),
        (slope > SLOPE, f"the driver's memory grows by {slope:.0f} kB a trial"),
        (files_then > files + HANDLES, f"the driver's open files grow from {files} to {files_then}"),
        (rewritten, f"written again: {rewritten[:3]}"),
        (record.again, f"tried again after they had ended: {record.again}"),
    ]
    return [told for is_wrong, told in checks if is_wrong]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        machines = Machines()
        try:
            wrong = soak(HOME / "disturbed", machines, options)
        finally:
            machines.shutdown()
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's own would end this with status 1 and no word
        config = parse(SWEEP.format(storage=HOME / "quiet", seeds=options.trials // 2))
        plan, store = Plan(config, find_facts(config)), Store(str(HOME / "quiet"))
        ledger = Ledger(store, config.name)
        ledger.register(record_of(plan, None))
        run_phases(plan, ledger, LocalRunner(plan, store, ledger), Quiet())
        quiet, disturbed = comparable(HOME / "quiet"), comparable(HOME / "disturbed")
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
    planned = {spec.id for spec in plan.confirm(config.methods)}
    if len(planned) != options.trials or {trial for trial, _ in disturbed} != planned:
        wrong.append(f"{len({trial for trial, _ in disturbed})} trials have rows, {len(planned)} were planned")
    if quiet != disturbed:
        wrong.append(f"rows of one run alone: {list((quiet - disturbed) + (disturbed - quiet))[:2]}")
    print(f"{disturbed.total()} rows, of the quiet run {quiet.total()}. " + ("\n".join(wrong) or "Nothing is wrong."))
    return bool(wrong)


def comparable(storage: Path) -> Counter[tuple[str, str]]:
    rows = read_rows(str(storage / "sweeps/soak")).to_pylist()
    return Counter((row["trial"], str(row)) for row in rows if row["metric"] != "seconds")


if __name__ == "__main__":
    sys.exit(main())
