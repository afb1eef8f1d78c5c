"""`python -m saeft_ray.on_ray.spot`: waits for the notice of an AWS spot machine, two minutes before it goes, and has
Ray drain the machine: no trial comes any more, and those that run save checkpoints and leave (preemption.py).

Ray itself does not ask for the notice. On a machine that is not spot, none comes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

ENDPOINT = "http://169.254.169.254"  # of every EC2 machine, for itself alone
EVERY = 5.0  # seconds between two looks, as AWS advises


def main(arguments: list[str] | None = None) -> int:
    """Ends once the machine is being drained. Exit status: that of `ray drain-node`."""
    parser = argparse.ArgumentParser(prog="python -m saeft_ray.on_ray.spot", description="Heed a spot notice.")
    parser.add_argument("--address", help="the cluster; default: the one that this machine belongs to")
    parser.add_argument("--node", help="the id of this machine in it; default: asked of Ray")
    parser.add_argument("--every", type=float, default=EVERY, help="seconds between two looks")
    options = parser.parse_args(arguments)
    endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", ENDPOINT).rstrip("/")
    while (left := notice(endpoint)) is None:
        time.sleep(options.every)
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "spot notice", "--deadline-remaining-seconds", str(left)]
    command += ["--address", options.address] if options.address else []
    command += ["--node-id", options.node] if options.node else []
    print(f"spot notice: this machine goes in {left} s", flush=True)
    return subprocess.run(command).returncode  # noqa: S603 - no shell; words of this machine's own administrator


def notice(endpoint: str) -> int | None:
    """Seconds until this machine goes; None if nobody takes it, or nobody answers."""
    try:
        token = _ask(f"{endpoint}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        header = {"X-aws-ec2-metadata-token": token}
        said = json.loads(_ask(f"{endpoint}/latest/meta-data/spot/instance-action", "GET", header))
        goes = datetime.fromisoformat(said["time"])
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError, KeyError, TypeError):
        return None
    return max(0, int((goes - datetime.now(UTC)).total_seconds()))


def _ask(url: str, method: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - of a fixed scheme
    with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310
        return str(answer.read().decode())


if __name__ == "__main__":
    sys.exit(main())
