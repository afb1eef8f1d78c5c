"""sweeps/imagenet.yaml in miniature: from shards on a real S3 server, over two nodes of a real Ray, to its report."""

import json
import os
from pathlib import Path

import open_clip
import pytest
import yaml
from ray.cluster_utils import Cluster
from remote import filesystem
from safetensors.torch import save_file

from saeft_ray.api import load
from saeft_ray.datasets.images.imagenet_classes import synsets
from saeft_ray.datasets.images.sharding import shard
from saeft_ray.on_ray.runner import INHERITED, SETTINGS
from saeft_ray.records.read import read_rows

from imagenet_trees import WNIDS, plant, tiny
from s3_server import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.long]
FILE = Path(__file__).parent.parent / "sweeps/imagenet.yaml"
CLASSES = tuple(sorted({*WNIDS, *synsets("imagenet_a_synsets")[:6], *synsets("imagenet_r_synsets")[-5:]}))


@pytest.fixture
def known(tmp_path):
    """The name of a tiny ViT, which open_clip is told of in every process of Ray too."""
    name = tiny(tmp_path)
    place = tmp_path / f"{name}.json"

    def tell():
        """Once open_clip is imported, which takes seconds that most processes of Ray need not spend."""
        import importlib.abc
        import importlib.util
        import sys

        class Finder(importlib.abc.MetaPathFinder):
            def find_spec(self, fullname, path, target=None):
                if fullname != "open_clip":
                    return None
                sys.meta_path.remove(self)
                spec = importlib.util.find_spec(fullname)
                run = spec.loader.exec_module

                def told(module):
                    run(module)
                    module.add_model_config(place)

                spec.loader.exec_module = told
                return spec

        sys.meta_path.insert(0, Finder())

    return name, tell


@pytest.fixture
def two_machines(known, s3_url, tmp_path, monkeypatch):
    """Each with one CPU, so that the workers of one trial are on both."""
    import ray

    monkeypatch.setenv("SAEFT_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": free_ports(1)[0]}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1)
    variables = {**SETTINGS, **{k: v for k, v in os.environ.items() if k.startswith(INHERITED)}}
    ray.init(
        address=cluster.address,
        log_to_driver=False,
        runtime_env={"env_vars": variables, "worker_process_setup_hook": known[1]},
    )
    yield ray
    ray.shutdown()
    cluster.shutdown()


def in_miniature(folder, url, arch):
    """The sweep file with other places and sizes, and nothing else."""
    settings = yaml.safe_load(FILE.read_text())
    trees = plant(folder / "trees", train=12, test=2, wnids=CLASSES)
    for name in ("train", "val", "v2", "r", "a", "sketch"):
        shard(trees[name], f"{url}/data/{name}", 60_000)
    shard(f"{trees['objectnet']}/images", f"{url}/data/objectnet/images", 60_000)
    fs, root = filesystem(url)
    fs.put(f"{trees['objectnet']}/mappings", f"{root}/data/objectnet/mappings", recursive=True)
    model = open_clip.create_model(arch)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "tiny.safetensors")
    fs.put(str(folder / "tiny.safetensors"), f"{root}/weights/tiny.safetensors")
    settings["storage"] = f"{url}/saeft"
    settings["model"] = {"arch": arch, "pretrained": f"{url}/weights/tiny.safetensors"}
    settings["data"] |= {name: f"{url}/data/{name}" for name in trees}
    settings["data"] |= {"classes": list(CLASSES), "selection": 2, "expect": "none"}
    settings["train"] |= {"epochs": 2, "batch_size": 40}
    settings["dictionary"] |= {"width": 64, "k": 4, "steps": 20, "batch_size": 40, "seeds": 2}
    settings["search"]["trials"] = 1
    settings["rerank"] = {"top": 1, "seeds": 1}
    settings["confirm"], settings["curves"]["seeds"] = {"seeds": 2}, 2
    settings["compute"] |= {"gpus": 0, "cpus": 1, "workers": 2, "loaders": 1, "concurrent": 1}
    return settings


def test_the_sweep_of_imagenet_runs_to_its_report(two_machines, known, s3_url, tmp_path, capsys):
    assert [node["Resources"]["CPU"] for node in two_machines.nodes()] == [1, 1]
    settings = in_miniature(tmp_path, s3_url, known[0])
    assert len(settings["data"]["classes"]) == 20
    file = tmp_path / "imagenet.yaml"
    file.write_text(yaml.safe_dump(settings))
    load(file).run(join=True).report()
    assert "confirm: done" in capsys.readouterr().out
    url = f"{s3_url}/saeft/sweeps/imagenet"
    rows = read_rows(url).to_pylist()
    assert {row["status"] for row in rows} <= {"ok", "stopped"}
    tests = {"ImageNet", "V2", "R", "A", "Sketch", "ObjectNet"}
    for method in settings["methods"]:
        seen = {r["dataset"] for r in rows if r["method"] == method and r["role"] in ("id", "ood")}
        assert seen == tests, method
    fs, root = filesystem(f"{url}/report")
    report = json.loads(fs.cat_file(f"{root}/report.json"))
    assert {found["method"] for found in report["primary"]} == settings["methods"].keys() - {"ft"}
    assert {"report.html", "report.md", "results.csv", "results.tex"} <= {
        p.rpartition("/")[2] for p in fs.ls(root, False)
    }
