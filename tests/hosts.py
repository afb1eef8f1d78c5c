"""Machines inside this one, for a test of `ray up`: a laptop, and hosts that it reaches by ssh over its own bridge.

All are Linux namespaces, and the hosts' are inside the laptop's. Each machine has its own processes, network, host
name, /tmp, /root and /run; the rest of the file system is everybody's. The kernel ends the laptop with its first
process and everything in it with the laptop, so nothing outlives the test, and no interface is ever seen outside.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

NAMESPACES = ("--net", "--mount", "--pid", "--ipc", "--uts")
UNSHARE = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc"]
PRIVATE = ("/root", "/run", "/var/tmp", "/tmp")  # /tmp last: the scripts of this file may lie there
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> str | None:
    """Why there can be no hosts on this machine; None if there can."""
    if os.geteuid():
        return "needs root"
    tools = [
        tool for tool in ("ip", "sshd", "ssh", "ssh-keygen", "rsync", "pgrep", "unshare", "nsenter") if not which(tool)
    ]
    if tools:
        return f"no {', '.join(tools)} on this machine"
    trial = "mount -nt tmpfs tmpfs /run && ip link add bridge type bridge && ip link add one type veth"
    try:
        tried = subprocess.run([*UNSHARE, "sh", "-c", trial], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return f"namespaces are not permitted here: {error}"
    return f"namespaces are not permitted here: {tried.stderr.strip()}" if tried.returncode else None


def which(tool: str) -> str | None:
    return shutil.which(tool, path=SYSTEM_PATH)


class Hosts:
    """A context manager. `addresses` of the hosts, `key` that opens root's ssh on them, `laptop` the address on which
    they reach the laptop. `shared` are folders that all see, wherever they lie; `folder` is one of them."""

    def __init__(self, folder: Path, count: int, shared: Sequence[Path]):
        self.folder = folder
        self.addresses = [f"10.77.0.{number}" for number in range(1, count + 1)]
        self.laptop = "10.77.0.254"
        self.key = folder / "key"
        self._shared = sorted({folder, *shared})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True, timeout=30)
        names = "".join(f"{address} host{n}\n" for n, address in enumerate(self.addresses, 1))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{self.laptop} laptop\n{names}")
        (self.folder / "resolv.conf").write_text("")
        for number, address in enumerate(self.addresses, 1):
            self._script(f"host{number}", self._host(number, address))
        self._script("laptop", self._laptop())
        log = (self.folder / "laptop.log").open("wb")
        self._process = subprocess.Popen(
            [*UNSHARE, "bash", str(self.folder / "laptop.sh")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            self._wait()
        except BaseException as error:
            self.__exit__(None, None, None)
            error.add_note("".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log"))))
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()  # and with it, by --kill-child, the first process of the laptop, and so all others
            self._process.wait(timeout=60)

    def command(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
        """What runs `words` on the laptop."""
        settings = {
            "PATH": f"{sys.prefix}/bin:{SYSTEM_PATH}",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            **(environment or {}),
        }
        clean = ["env", "-i", "--chdir=/root", *(f"{name}={value}" for name, value in settings.items())]
        enter = ["nsenter", "--target", str(self._first()), *NAMESPACES]
        return [*enter, "--", *clean, *words]

    def run(
        self, words: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs `words` on the laptop; its output in one. Raises subprocess.TimeoutExpired."""
        return subprocess.run(
            self.command(words, environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def processes(self, name: str) -> int:
        """How many processes of this name run on all machines."""
        return len(self.run(["pgrep", "-x", name], 30).stdout.split())

    def _first(self) -> int:
        """The laptop's first process, as this machine sees it."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            raise RuntimeError("the laptop has ended")
        return int(children[0])

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        waiting = list(self.addresses)
        while waiting:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no ssh on {waiting[0]}")
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError("the laptop has ended")
            time.sleep(0.2)
            options = ["-o", "StrictHostKeyChecking=no", "-o", "ConnectTimeout=5", "-o", "BatchMode=yes"]
            try:
                if not self.run(["ssh", "-i", str(self.key), *options, f"root@{waiting[0]}", "true"], 30).returncode:
                    waiting.pop(0)
            except RuntimeError:  # not begun yet
                continue

    def _script(self, name: str, lines: Sequence[str]) -> None:
        (self.folder / f"{name}.sh").write_text("\n".join(["set -e", *lines, ""]))

    def _private(self, name: str) -> list[str]:
        """Empty folders in the place of PRIVATE, with what is shared in them."""
        lines, stage = [], self.folder / name
        for place in PRIVATE:
            lines += [f"mkdir -p {quoted(stage, place)}", f"mount -nt tmpfs tmpfs {quoted(stage, place)}"]
            for one in self._shared:
                if one.is_relative_to(place):
                    lines += [f"mkdir -p {quoted(stage, one)}", f"mount -n --rbind {quoted(one)} {quoted(stage, one)}"]
        lines += [f"mount -n --move {quoted(stage, place)} {place}" for place in PRIVATE]
        for file in ("hosts", "resolv.conf"):
            lines += [f"mount -n --bind {quoted(self.folder / file)} $(realpath /etc/{file}) || true"]
        return [*lines, f"hostname {name}", "ip link set lo up", "cd /"]

    def _laptop(self) -> list[str]:
        lines = [*self._private("laptop"), "ip link add bridge type bridge", f"ip addr add {self.laptop}/24 dev bridge"]
        lines += ["ip link set bridge up"]
        for number in range(1, len(self.addresses) + 1):
            script, log = self.folder / f"host{number}.sh", self.folder / f"host{number}.log"
            lines += [
                f"{shlex.join(UNSHARE)} bash {quoted(script)} >{quoted(log)} 2>&1 &",
                "until ! [ /proc/$!/ns/net -ef /proc/$$/ns/net ]; do sleep 0.05; done",
                f"ip link add host{number} type veth peer name eth0 netns $!",
                f"ip link set host{number} master bridge up",
            ]
        return [*lines, "set +e", "while true; do wait; sleep 1; done"]

    def _host(self, number: int, address: str) -> list[str]:
        own = "/run/sshd"
        settings = [
            f"ListenAddress {address}",
            f"HostKey {own}/host_key",
            f"AuthorizedKeysFile {own}/authorized_keys",
            "StrictModes no",
            "PermitRootLogin prohibit-password",
            "UsePAM no",
            "PidFile none",
            "UseDNS no",
            "Subsystem sftp internal-sftp",
        ]
        (self.folder / f"host{number}.sshd").write_text("\n".join(settings) + "\n")
        return [
            *self._private(f"host{number}"),
            f"mkdir {own}",
            f"cp {quoted(self.folder / f'host{number}.sshd')} {own}/config",
            f"cp {quoted(self.folder / 'key.pub')} {own}/authorized_keys",
            f"ssh-keygen -q -t ed25519 -N '' -f {own}/host_key",
            "until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done",
            f"ip addr add {address}/24 dev eth0",
            "ip link set eth0 up",
            "ip route add default dev eth0",  # it leads nowhere, but Ray asks which address would reach the world
            f"{which('sshd')} -D -e -f {own}/config",
            "exit 1",
        ]


def quoted(*parts: str | Path) -> str:
    """The parts as one path below the first, fit for a shell."""
    first, *rest = (str(part) for part in parts)
    return shlex.quote("/".join([first.rstrip("/"), *(part.lstrip("/") for part in rest)]))
