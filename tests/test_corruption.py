"""Damaged bytes anywhere in a sweep's storage are named, made again where they can be, and never counted."""

import json
import random
import shutil
from pathlib import Path

import pytest

from saeft_ray import results
from saeft_ray.config.schema import METHODS as KINDS
from saeft_ray.errors import Damaged, Missing, Taken
from saeft_ray.orchestration import trial
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.phases import run_phases
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.reopen import record_of
from saeft_ray.records.folder import read_parquet
from saeft_ray.records.lease import Lease
from saeft_ray.records.ledger import Ledger
from saeft_ray.records.read import read_record, read_rows
from saeft_ray.report.__main__ import main as report
from saeft_ray.storage.checksum import from_json
from saeft_ray.storage.store import Store
from saeft_ray.training.worker import Worker

import sweeps
from sweeps import comparable

SWEEP = Path("sweeps/small")
METHODS = {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}}
MUTATIONS = 300
ROUNDS = 8


class Interrupt(Quiet):
    """Ctrl-C after a few trials."""

    def __init__(self, after):
        self.left = after

    def ended(self, spec, selection, course=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def drive(plan, folder, watcher):
    """What the door does: lease, begin, register, run_phases. Returns what was told."""
    store = Store(str(folder))
    with Lease(store, str(SWEEP), beat=0.1, patience=0.5) as lease:
        ledger = Ledger(store, plan.config.name, lease.token)
        told = ledger.begin(None)
        with pytest.raises(Taken), Lease(store, str(SWEEP), patience=4.0):
            pass
        ledger.register(record_of(plan, None))
        run_phases(plan, ledger, LocalRunner(plan, store, ledger), watcher)
    return told


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep that two drivers made, and that keeps a checkpoint too: its config and folder."""
    folder = tmp_path_factory.mktemp("runs")
    sections = {"methods": METHODS, "search": {"trials": 5}, "report": {"alpha": 0.001}}
    config = sweeps.config(folder, confirm={"seeds": {"min": 3, "max": 4}}, **sections)
    plan = Plan(config, find_facts(config))
    with pytest.raises(KeyboardInterrupt):
        drive(plan, folder, Interrupt(after=4))
    drive(plan, folder, Quiet())
    longer = {**sweeps.SMALL["train"], "epochs": 2}
    longer = Plan(sweeps.config(folder, train=longer, compute={"checkpoint_minutes": 0}, **sections), plan.facts)
    training = trial.run(longer, longer.confirm(chosen(folder))[1], Store(str(folder)), Worker())
    next(training)
    training.close()
    return config, folder


def chosen(folder):
    told = from_json((folder / SWEEP / "chosen.json").read_bytes(), "")
    return {label: KINDS[settings["type"]].model_validate(settings) for label, settings in told.items()}


def mutate(data, draw):
    """`data` with a few bytes flipped, a block zeroed, or an end cut off."""
    changed = bytearray(data)
    match draw.choice(["flip", "flip", "zero", "cut", "empty"]):
        case "flip":
            for _ in range(draw.choice([1, 1, 3])):
                changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        case "zero":
            start = draw.randrange(len(data))
            changed[start : start + 512] = bytes(len(changed[start : start + 512]))
        case "cut":
            del changed[draw.randrange(len(data)) :]
        case "empty":
            changed.clear()
    return bytes(changed)


def content(path, storage):
    """What our readers find in a file, whatever its kind. Raises Damaged."""
    relative = path.relative_to(storage).parts
    if relative[0] == "artifacts":
        kind, key = relative[1:3]
        folder = Store(str(storage)).get(kind, key)
        return {file.name: file.read_bytes() for file in folder.iterdir()}
    if path.suffix == ".parquet":
        return read_parquet(path.read_bytes(), str(path))
    return from_json(path.read_bytes(), str(path))


def outcome(path, storage):
    """What a reader gets: content or error."""
    try:
        return content(path, storage)
    except Damaged as error:
        return error


@pytest.mark.slow
def test_every_mutation_is_named_or_changes_nothing_that_is_read(whole):
    _, storage = whole
    draw = random.Random(2026)
    files = sorted(path for path in storage.rglob("*") if path.is_file() and path.suffix != ".beat")
    kinds = {path.name for path in files}
    assert {"sweep.json", "registration.json", "chosen.json", "spec.json", "rows.parquet", "manifest.json"} <= kinds
    assert {"000001.json", "000002.json", "000001.found.json", "000002.found.json"} <= kinds
    assert {"state.safetensors", "model.safetensors", "head.safetensors", "activations.npy"} <= kinds
    assert any(path.parent.name == "looks" for path in files)
    named = 0
    for number in range(MUTATIONS):
        path = files[number % len(files)] if number < len(files) else draw.choice(files)
        sound, before = path.read_bytes(), content(path, storage)
        path.write_bytes(mutate(sound, draw))
        if path.read_bytes() != sound:
            after = outcome(path, storage)
            named += isinstance(after, Damaged)
            assert path.name in str(after) if isinstance(after, Damaged) else after == before, f"{number}: {path}"
        path.write_bytes(sound)
    assert named > 0.95 * MUTATIONS


def test_readers_name_every_damaged_file_and_show_nothing(whole, tmp_path, capsys):
    shutil.copytree(whole[1], tmp_path / "runs")
    sweep = tmp_path / "runs/sweeps/small"
    hurt = sorted(sweep.glob("trials/*/rows.parquet"))[:2]
    for path in hurt:
        path.write_bytes(mutate(path.read_bytes(), random.Random(1)))
    with pytest.raises(Damaged) as caught:
        read_rows(str(sweep))
    assert all(path.parent.name in str(caught.value) for path in hurt)
    assert results.main([str(sweep)]) == 1
    said = capsys.readouterr()
    assert hurt[0].parent.name in said.err
    assert said.out == ""
    look = next(sweep.glob("looks/*.json"))
    look.write_bytes(look.read_bytes().replace(b"undecided", b"better"))
    with pytest.raises(Damaged, match=look.name):
        read_record(str(sweep))


def test_one_damaged_file_of_every_kind_and_the_same_sweep_makes_all_of_it_again(whole, tmp_path, caplog):
    config, storage = whole
    quiet = comparable(str(storage / "sweeps/small"))
    shutil.copytree(storage, tmp_path / "runs")
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"url": str(tmp_path / "runs")})})
    sweep, draw = tmp_path / "runs/sweeps/small", random.Random(7)
    search = sorted(sweep.glob("trials/search-*"))
    wanted = [
        sweep / "chosen.json", sweep / "registration.json", next(sweep.glob("looks/*")), search[0] / "spec.json",
        search[1] / "rows.parquet", next(sweep.glob("trials/rerank-*/spec.json")),
        next(sweep.glob("trials/confirm-ft-*/rows.parquet")), next(sweep.glob("trials/confirm-mse-*/rows.parquet")),
        *(next((tmp_path / "runs/artifacts").glob(f"{kind}/*/*/{name}")) for kind, name in (
            ("head", "head.safetensors"), ("activations", "activations.npy"))),
        *(tmp_path / "runs/artifacts").glob("endpoint/*/*/model.safetensors"),
    ]  # fmt: skip
    for path in wanted:
        path.write_bytes(mutate(path.read_bytes(), draw))
    plan, store, _ = sweeps.opened(config)
    ledger = Ledger(store, config.name, lease=3)
    told = ledger.begin(None)
    inside = [path for path in wanted if path.is_relative_to(sweep)]
    assert all(any(str(path.relative_to(sweep)) in line for line in told) for path in inside)
    assert len(told) == len(inside)
    run_phases(plan, ledger, LocalRunner(plan, store, ledger), Quiet())
    assert comparable(ledger.url) == quiet
    for path in set(wanted) - set(inside):
        assert path.name in caplog.text
    assert len(list(sweep.rglob("set-aside-*"))) == len(inside), "what a user owned is still there"


def decided(sweep):
    record = read_record(str(sweep))
    known = {name: record[name] for name in ("suggestions", "registration", "looks")}
    return (
        known,
        from_json((sweep / "chosen.json").read_bytes(), "chosen.json"),
        sorted(p.name for p in sweep.glob("trials/*")),
    )


def hurt_some(files, storage, draw):
    """Damages some of `files`; those that a reader can tell, with what they hold now."""
    hurt = {}
    for path in draw.sample(files, min(len(files), draw.randrange(20, 31))):
        path.write_bytes(mutate(path.read_bytes(), draw))
    for path in files:
        if path.suffix != ".beat" and isinstance(outcome(path, storage), Damaged):
            hurt[path] = path.read_bytes()
    return hurt


@pytest.mark.parametrize("number", range(ROUNDS))
def test_whatever_is_damaged_at_once_the_same_sweep_ends_as_it_did_and_nothing_is_silently_wrong(
    whole, tmp_path, caplog, capsys, number
):
    config, quiet = whole[0], whole[1] / SWEEP
    shutil.copytree(whole[1], tmp_path / "runs")
    storage, sweep, draw = tmp_path / "runs", tmp_path / "runs" / SWEEP, random.Random(f"round {number}")
    files = sorted(path for path in storage.rglob("*") if path.is_file() and path.name != "sweep.json")
    if number == 0:  # what readers need is whole
        files = [path for path in files if not {"trials", "looks"} & {*path.parts} and path.parent != sweep]
    hurt = hurt_some(files, storage, draw)
    assert len(hurt) > 10
    inside = {path: str(path.relative_to(sweep)) for path in hurt if path.is_relative_to(sweep)}
    # Leases are told when one is taken; signs of life are written anew.
    passing = ("leases/", "signs/", "progress.json")
    owned = {path: name for path, name in inside.items() if not name.startswith(passing)}
    for read, door in ((comparable, results.main), (decided, report)):
        seen = refused = None
        try:
            seen = read(sweep)
        except Damaged as error:
            refused = str(error)
        if refused is None:
            assert seen == read(quiet)
            continue
        assert number > 0
        rows = [name for name in inside.values() if name.endswith("/rows.parquet")]
        assert all(name in refused for name in rows) or read is decided
        assert door([str(sweep)]) == 1
        said = capsys.readouterr().err
        for words in (refused, said):
            assert any(name in words for name in inside.values())
    caplog.clear()
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"url": str(storage)})})
    plan = Plan(config, find_facts(config))
    told = drive(plan, storage, Quiet())
    assert comparable(sweep) == comparable(quiet)
    assert decided(sweep) == decided(quiet)
    assert sorted(name for name in owned.values() if any(name in line for line in told)) == sorted(owned.values())
    assert len(told) == len(owned)
    for path in owned:
        assert hurt[path] in [aside.read_bytes() for aside in path.parent.glob("set-aside-*")]
    for name in ("leases/000002.json", "leases/000002.found.json"):
        assert (name in caplog.text) == (name in inside.values())
    for path in hurt.keys() - inside.keys():
        _, kind, key, *_ = path.relative_to(storage).parts
        assert hurt[path] in [file.read_bytes() for file in (storage / "artifacts" / kind / key).rglob("*.*")]
        try:
            Store(str(storage)).get(kind, key)
        except (Damaged, Missing):  # nobody needed it
            continue
        assert key in caplog.text


def test_a_damaged_record_stops_the_sweep_and_says_so(whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "runs")
    record = tmp_path / "runs/sweeps/small/sweep.json"
    changed = record.read_bytes().replace(b'"lr": 0.001', b'"lr": 0.002')
    assert json.loads(changed) != json.loads(record.read_bytes())
    record.write_bytes(changed)
    with pytest.raises(Damaged, match=r"sweep\.json: content differs.*another name"):
        Ledger(Store(str(tmp_path / "runs")), "small", lease=3).begin(None)
