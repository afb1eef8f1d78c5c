"""Damaged bytes anywhere in a sweep's storage are named, made again where they can be, and never counted."""

import json
import random
import shutil
from pathlib import Path

import pytest

from saeft_ray import results, trial
from saeft_ray.finetune import Place
from saeft_ray.ledger import Ledger
from saeft_ray.local import LocalRunner
from saeft_ray.plan import Plan
from saeft_ray.progress import Quiet
from saeft_ray.protocol import conduct
from saeft_ray.sealed import Damaged, from_json
from saeft_ray.store import Store
from saeft_ray.sweep_folder import read_parquet
from saeft_ray.table import read_record, read_rows

import sweeps

METHODS = {"zero_shot": {}, "ft": {}, "mse": {"lambda_mse": {"low": 30, "high": 3000}}}
MUTATIONS = 300


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished sweep that keeps a checkpoint too: its config and folder."""
    folder = tmp_path_factory.mktemp("runs")
    sections = {"methods": METHODS, "search": {"trials": 2}, "report": {"alpha": 0.001}}
    config = sweeps.config(folder, confirm={"seeds": {"min": 3, "max": 4}}, **sections)
    plan, _, chosen = sweeps.run_here(config)
    longer = {**sweeps.SMALL["train"], "epochs": 2}
    longer = Plan(sweeps.config(folder, train=longer, compute={"checkpoint_minutes": 0}, **sections), plan.facts)
    training = trial.run(longer, longer.confirm(chosen)[1], Store(str(folder)), Place())
    next(training)
    training.close()
    return config, folder


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


def test_every_mutation_is_named_or_changes_nothing_that_is_read(whole):
    _, storage = whole
    draw = random.Random(2026)
    files = sorted(path for path in storage.rglob("*") if path.is_file() and "leases" not in path.parts)
    kinds = {path.name for path in files}
    assert {"sweep.json", "registration.json", "chosen.json", "spec.json", "rows.parquet", "manifest.json"} <= kinds
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
    assert results.main([str(sweep)]) == 2
    said = capsys.readouterr()
    assert hurt[0].parent.name in said.err
    assert said.out == ""
    look = next(sweep.glob("looks/*.json"))
    look.write_bytes(look.read_bytes().replace(b"undecided", b"better"))
    with pytest.raises(Damaged, match=look.name):
        read_record(str(sweep))


def comparable(url):
    rows = [row for row in read_rows(url).to_pylist() if row["metric"] != "seconds"]
    return sorted(rows, key=lambda row: (row["trial"], row["dataset"], row["metric"]))


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
    ledger = Ledger(store, config.name, lease=1)
    told = ledger.begin(None)
    inside = [path for path in wanted if path.is_relative_to(sweep)]
    assert all(any(str(path.relative_to(sweep)) in line for line in told) for path in inside)
    assert len(told) == len(inside)
    conduct(plan, ledger, LocalRunner(plan, store, ledger), Quiet())
    assert comparable(ledger.url) == quiet
    for path in set(wanted) - set(inside):
        assert path.name in caplog.text
    assert len(list(sweep.rglob("set-aside-*"))) == len(inside), "what a user owned is still there"


def test_a_damaged_record_stops_the_sweep_and_says_so(whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "runs")
    record = tmp_path / "runs/sweeps/small/sweep.json"
    changed = record.read_bytes().replace(b'"lr": 0.001', b'"lr": 0.002')
    assert json.loads(changed) != json.loads(record.read_bytes())
    record.write_bytes(changed)
    with pytest.raises(Damaged, match=r"sweep\.json: content differs.*another name"):
        Ledger(Store(str(tmp_path / "runs")), "small", lease=1).begin(None)


def test_files_from_before_there_were_seals_are_read(whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "runs")
    for path in Path(tmp_path / "runs").rglob("*.json"):
        if "trials" in path.parts or path.name == "sweep.json":
            path.write_text(json.dumps(from_json(path.read_bytes(), "")))
    ledger = Ledger(Store(str(tmp_path / "runs")), "small", lease=1)
    assert ledger.begin(None) == []
    assert len(ledger.asked("search")) == 2
    assert ledger.record()["name"] == "small"
