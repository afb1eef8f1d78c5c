"""`python -m saeft_ray.on_ray.node`: a node of a Slurm job as a node of the job's Ray, until stdin ends.

A step of `srun` (allocation.py). Once Ray is up, it prints one line of JSON: the head's address, and what Slurm gave
the job on this node.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import deque

from saeft_ray.on_ray.internals import START_HOOK, STARTED, address_file

_WORDS = 30  # lines of Ray that are repeated if it does not start
# All ports are left to the system: Rays of other jobs start on this machine, maybe at this moment.
_ANY_PORT = ("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0")
_HEAD = ("--head", "--port=0", "--dashboard-port=0", "--disable-usage-stats")


def main(arguments: list[str] | None = None) -> int:
    """Exit status: that of `ray start`; 0 at the end of stdin."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.on_ray.node", description="One node of a job's Ray.")
    parser.add_argument("folder", help="for Ray's sessions and sockets on this node; removed at the end")
    parser.add_argument("--address", help="host:port of the head; without it, this node is the head")
    parser.add_argument("--dashboard", action="store_true", help="with a dashboard on the head's loopback")
    options = parser.parse_args(arguments)
    room = {"cpus": int(os.environ["SLURM_CPUS_ON_NODE"]), "gpus": _gpus()}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--temp-dir={options.folder}"]
    command += [f"--num-cpus={room['cpus']}", f"--num-gpus={room['gpus']}", *_ANY_PORT]
    if options.address:
        command += [f"--address={options.address}"]
    else:
        command += [*_HEAD, f"--include-dashboard={str(options.dashboard).lower()}"]
    try:
        return _run(command, options.folder, room)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)


def _gpus() -> int:
    """The job's GPUs on this node. Ray would count all that it sees, also those of others that Slurm does not hide."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("ROCR_VISIBLE_DEVICES") or ""
    named = [name for name in seen.split(",") if name not in {"", "NoDevFiles"}]
    return int(os.environ.get("SLURM_GPUS_ON_NODE") or len(named))


def _run(command: list[str], folder: str, room: dict[str, int]) -> int:
    words: deque[str] = deque(maxlen=_WORDS)
    with subprocess.Popen(  # noqa: S603 - no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**START_HOOK, **os.environ, "PYTHONUNBUFFERED": "1"},
    ) as ray:
        asked = threading.Event()
        threading.Thread(target=_end_with_input, args=(ray, asked), daemon=True).start()
        assert ray.stdout is not None
        up = False
        for line in ray.stdout:
            words.append(line)
            if STARTED in line and not up:
                up = True
                print(json.dumps({"head": address_file(folder).read_text().strip(), **room}), flush=True)
    if not up and not asked.is_set():
        print("".join(words), file=sys.stderr, flush=True)
    return 0 if asked.is_set() else int(ray.returncode)


def _end_with_input(ray: "subprocess.Popen[str]", asked: threading.Event) -> None:
    """Ends Ray at the end of stdin: that of the step's owner, however it ended. A signal to `srun` would end all
    processes at once."""
    sys.stdin.read()
    asked.set()
    ray.terminate()


if __name__ == "__main__":
    sys.exit(main())
