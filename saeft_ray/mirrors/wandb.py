"""Weights & Biases: an offline run for each trial, which `wandb sync` sends when its owner wants it.

A run is written aside and put in place whole, with a note of what it holds. A trial that has gained epochs gets a new
run of the same id in the place of the one before.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Nothing leaves this machine: W&B reports its own errors otherwise.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from saeft_ray.errors import UserError
from saeft_ray.mirrors import Added
from saeft_ray.mirrors.sweep import Sweep, Trial
from saeft_ray.storage.checksum import from_json, to_json
from saeft_ray.storage.fingerprint import fingerprint

_NOTE = "saeft_ray.json"
_ASIDE = ".saeft_ray-"
_LONGEST = 128  # characters of a project's name


class WandB:
    """A project, whose offline runs lie in `$WANDB_DIR/wandb`, else in `./wandb`, as W&B's own do."""

    def __init__(self, project: str):
        *entity, self._project = project.split("/")
        if len(entity) > 1 or not self._project or re.search(r"[\\#?%:]", project) or len(self._project) > _LONGEST:
            raise UserError(
                f"wandb:{project}: give PROJECT or ENTITY/PROJECT, at most {_LONGEST} characters without / \\ # ? % :"
            )
        self._entity = entity[0] if entity else None
        self._folder = Path(os.environ.get("WANDB_DIR") or ".").resolve() / "wandb"
        if self._folder.exists() and not self._folder.is_dir():
            raise UserError(f"{self._folder}: is a file, and W&B's runs go into a folder of this name; set WANDB_DIR")
        if (self._folder / "__init__.py").exists():
            raise UserError(
                f"{self._folder}: holds Python code, and W&B's runs go into a folder of this name; set WANDB_DIR"
            )

    def add(self, sweep: Sweep) -> Iterator[Added]:
        with self._alone():
            held = self._held()
            try:
                for trial in sweep.trials:
                    if trial.over or trial.state == "running":
                        yield self._add(sweep, trial, held)
            finally:
                wandb.teardown()

    def is_away(self, error: Exception) -> bool:
        return False  # nothing is sent

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One copy at a time writes here; what an earlier one left when it was killed is removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{_ASIDE}lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{self._folder}: another mirror writes there now; wait for it, or set WANDB_DIR"
                ) from error
            for left in self._folder.glob(f"{_ASIDE}run-*"):
                shutil.rmtree(left)
            yield

    def _held(self) -> dict[str, dict[Path, tuple[int, bool]]]:
        """The runs of mirrors that are there, by id: how many epochs each has, and whether its trial was over."""
        found: dict[str, dict[Path, tuple[int, bool]]] = {}
        for path in self._folder.glob(f"offline-run-*/{_NOTE}"):
            note = from_json(path.read_bytes(), str(path))
            found.setdefault(note["id"], {})[path.parent] = (note["epochs"], note["over"])
        return found

    def _add(self, sweep: Sweep, trial: Trial, held: dict[str, dict[Path, tuple[int, bool]]]) -> Added:
        name = fingerprint([self._entity, self._project, sweep.key, trial.id], 16)
        known = held.get(name, {})
        epochs, over = max(known.values(), default=(0, False))
        added = Added()
        if not known or (len(trial.epochs), trial.over) > (epochs, over):
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=f"{_ASIDE}run-") as aside:
                made = self._write(sweep, trial, name, Path(aside))
                note = {
                    "id": name,
                    "sweep": sweep.key,
                    "trial": trial.id,
                    "epochs": len(trial.epochs),
                    "over": trial.over,
                }
                (made / _NOTE).write_bytes(to_json(note))
                place = made.rename(_unused(self._folder / made.name))
            known = {**known, place: (len(trial.epochs), trial.over)}
            added = Added(0 if name in held else 1, len(trial.epochs) - epochs)
        best = max(known, key=lambda path: (known[path], path.name))
        for path in known.keys() - {best}:
            shutil.rmtree(path)
        return added

    def _write(self, sweep: Sweep, trial: Trial, name: str, aside: Path) -> Path:
        """A whole offline run below `aside`; returns its folder."""
        about = {"method": trial.method, "phase": trial.phase, "seed": trial.seed, "configuration": trial.configuration}
        run = wandb.init(
            project=self._project,
            entity=self._entity,
            id=name,
            name=trial.id,
            group=f"{trial.phase}-{trial.method}-{trial.configuration}",  # seeds are its replicates
            job_type=trial.phase,
            tags=[sweep.name, trial.method, trial.phase],
            config={**trial.values, **about, "sweep": sweep.name, "url": sweep.url},
            dir=str(aside),
            mode="offline",
            settings=wandb.Settings(
                console="off", disable_code=True, disable_git=True, silent=True, save_code=False,
                x_disable_machine_info=True, x_disable_meta=True, x_disable_stats=True,
            ),
        )  # fmt: skip
        for epoch in trial.epochs:
            run.log({**epoch.numbers, "ended": epoch.ended}, step=epoch.number)
        result: dict[str, str | float | None] = {
            **trial.results,
            "status": trial.state,
            "node": trial.node,
            "device": trial.device,
        }
        result |= {"began": trial.began, "ended": trial.ended, "error": trial.error, "selection": trial.selection}
        run.summary.update({name: value for name, value in result.items() if value not in (None, "")})
        run.finish(exit_code=1 if trial.state == "failed" else 0)
        (made,) = (aside / "wandb").glob("offline-run-*")
        return made


def _unused(path: Path) -> Path:
    """W&B names a folder by the second; two runs of one id in one second need two names."""
    number = 0
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found
