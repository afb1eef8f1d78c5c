"""A real Slurm on this machine's loopback: munged, slurmctld and one slurmd a node, in a folder of their own.

All nodes are this machine, under names of their own. Fake GPUs are terminals: Slurm counts them and hands them out by
CUDA_VISIBLE_DEVICES, and nothing can compute on them.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
DAEMONS = ("munged", "slurmctld", "slurmd")
CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
CryptoType=crypto/munge
# Also how long a job that was requeued waits; by default two minutes.
AuthInfo=socket={folder}/munge.socket,cred_expire=15
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no Slurm on this machine; None if there can."""
    if os.geteuid():
        return "a Slurm of the test's own needs root"
    absent = [tool for tool in (*DAEMONS, "sbatch", "srun") if not shutil.which(tool, path=PATH)]
    return f"no {', '.join(absent)} on this machine" if absent else None


class Slurm:
    """A context manager: a cluster of nodes n1, n2, …, each with `cpus` and `gpus`."""

    def __init__(self, folder: Path, nodes: int = 2, cpus: int = 2, gpus: int = 0):
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
        self._nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self._cpus, self._gpus = cpus, gpus

    def __enter__(self) -> Self:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        self._configure()
        own = {"socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "munge.seed"}
        files = [f"--{option}={self.folder / name}" for option, name in own.items()]
        try:
            # --force: a folder below /tmp is one that others may write to.
            self.run("munged", f"--key-file={key}", *files, "--force")
            self.run("slurmctld", "-f", self.environment["SLURM_CONF"])
            for node in self._nodes:
                self.run("slurmd", "-f", self.environment["SLURM_CONF"], "-N", node)
            self.wait(lambda: self.run("sinfo", "-hNo", "%T").split() == ["idle"] * len(self._nodes), 60)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        daemons = [int(path.read_text()) for path in self.folder.glob("*.pid")]
        if self.folder.joinpath("slurmctld.pid").exists():
            subprocess.run(["scancel", "--user=root"], env=self.environment, timeout=30)
            self.wait(lambda: not self.run("squeue", "-h"), 60, strict=False)
        for process in daemons:
            os.kill(process, 15)
        self.wait(lambda: not any(_lives(process) for process in daemons), 30, strict=False)

    def run(self, *command: str) -> str:
        """What a command says. Fails the test if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def submit(self, *words: object, cwd: Path, **environment: str) -> str:
        """`sbatch …` in the folder `cwd`; the job's number."""
        settings = {**self.environment, **environment}
        command = ["sbatch", "--parsable", *map(str, words)]
        done = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def shown(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job, by Slurm's names."""
        pairs = [word.partition("=") for word in self.run("scontrol", "show", "--oneliner", "job", job).split()]
        return {name: value for name, _, value in pairs}

    def wait(self, condition, seconds: float, *, strict: bool = True, told=lambda: "") -> None:
        """Until `condition()`; fails the test with what `told` says if that takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                assert not strict, told() or self._logs()
                return
            time.sleep(0.2)

    def _configure(self) -> None:
        host, ports = socket.gethostname(), _free_ports(len(self._nodes) + 1)
        gpus = f" Gres=gpu:{self._gpus}" if self._gpus else ""
        each = f"NodeHostname={host} NodeAddr=127.0.0.1 CPUs={self._cpus} RealMemory=4000{gpus}"
        lines = [f"NodeName={node} Port={port} {each}" for node, port in zip(self._nodes, ports[1:], strict=True)]
        text = CONF.format(host=host, port=ports[0], folder=self.folder, nodes="\n".join(lines))
        (self.folder / "slurm.conf").write_text(text)
        devices = f"/dev/tty[1-{self._gpus}]" if self._gpus > 1 else "/dev/tty1"
        gres = [f"NodeName={node} Name=gpu File={devices}\n" for node in self._nodes if self._gpus]
        (self.folder / "gres.conf").write_text("".join(gres))

    def _logs(self) -> str:
        return "".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))


def _free_ports(count: int) -> list[int]:
    """They are free together, so different from each other."""
    sockets = [socket.socket() for _ in range(count)]
    ports = []
    for one in sockets:
        one.bind(("127.0.0.1", 0))
        ports.append(one.getsockname()[1])
    for one in sockets:
        with closing(one):
            pass
    return ports


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
