"""The files of cluster/, proven without a cloud: against Ray's own checks, EC2's model, an EC2 in this process, and the
fields that KubeRay knows."""

import copy
import json
import os
import re
import subprocess
import tomllib
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import boto3
import botocore.session
import jsonschema
import pytest
import ray
import yaml
from botocore.validate import ParamValidator
from moto import mock_aws
from packaging.requirements import Requirement
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.util import prepare_config, validate_config

from saeft_ray.settings import Compute

import kuberay

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "cluster"
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


# ray up --------------------------------------------------------------------------------------------------------


def check(config):
    jsonschema.validate(config, SCHEMA)
    validate_config(prepare_config(copy.deepcopy(config)))


@pytest.mark.parametrize("name", ["gpu.yaml", "onprem.yaml"])
def test_ray_accepts_the_file_and_not_a_misspelt_one(name):
    check(read(name))
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        check({**read(name), "head_start_ray_command": []})


@pytest.mark.parametrize("name", ["gpu.yaml", "onprem.yaml"])
def test_the_commands_are_whole(name):
    """YAML takes what follows a # for a comment, for one."""
    for line in [line for key, lines in read(name).items() if key.endswith("commands") for line in lines]:
        assert subprocess.run(["bash", "-n", "-c", line], capture_output=True, timeout=10).returncode == 0, line


@pytest.mark.parametrize("name", ["gpu.yaml", "onprem.yaml"])
def test_the_dashboard_answers_on_the_head_alone(name):
    (start,) = [line for line in read(name)["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in start


def test_the_head_has_no_gpu_and_says_that_it_is_the_head():
    config = read("gpu.yaml")
    assert config["available_node_types"][config["head_node_type"]]["resources"] == {"GPU": 0, "head": 1}


@pytest.fixture(scope="module")
def run_instances():
    model = botocore.session.get_session().get_service_model("ec2")
    return model.operation_model("RunInstances").input_shape


def mistakes(node_config, shape):
    """What EC2's RunInstances would say of a node config; SubnetIds is Ray's own."""
    sent = {key: value for key, value in node_config.items() if key != "SubnetIds"}
    return ParamValidator().validate({**sent, "MinCount": 1, "MaxCount": 1}, shape).generate_report()


@pytest.mark.parametrize("node", ["head", "spot", "on_demand"])
def test_ec2_knows_every_setting_of_a_node(node, run_instances):
    config = read("gpu.yaml")["available_node_types"][node]["node_config"]
    assert mistakes(config, run_instances) == ""
    assert config["InstanceType"] in run_instances.members["InstanceType"].enum
    assert "Unknown parameter" in mistakes({**config, "IamInstanceProfil": {}}, run_instances)


def test_the_image_is_looked_up_and_each_machine_has_a_role():
    nodes = read("gpu.yaml")["available_node_types"]
    for node in nodes.values():
        assert re.fullmatch(r"resolve:ssm:/aws/service/\S+/ami-id", node["node_config"]["ImageId"])
    roles = {name: node["node_config"]["IamInstanceProfile"]["Name"] for name, node in nodes.items()}
    assert roles == {"head": "saeft-head", "spot": "saeft-worker", "on_demand": "saeft-worker"}


@pytest.fixture
def ec2(tmp_path, monkeypatch):
    """An EC2 in this process with the two roles, and a list of the operations asked of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps the key pair there
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    asked = set()
    with mock_aws():
        iam = boto3.client("iam")
        for role in ("saeft-head", "saeft-worker"):
            iam.create_instance_profile(InstanceProfileName=role)
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=(CLUSTER / "iam/trust.json").read_text())
            iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
        call = botocore.client.BaseClient._make_api_call

        def listen(client, operation, arguments):
            asked.add(f"{client.meta.service_model.service_name}:{operation}")
            return call(client, operation, arguments)

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", listen)
        yield asked


def test_ray_starts_and_ends_every_kind_of_node_with_the_rights_of_its_policy(ec2, tmp_path):
    config = _bootstrap_config(prepare_config(read("gpu.yaml")), no_config_cache=True)
    types = config["available_node_types"]
    assert types["head"]["resources"].items() >= {"CPU": 8, "GPU": 0, "head": 1}.items()
    for node in ("spot", "on_demand"):
        assert types[node]["resources"].items() >= {"CPU": 16, "GPU": 1}.items()
    assert [path.suffix for path in (tmp_path / ".ssh").iterdir()] == [".pem"]
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    provider.create_node(types["head"]["node_config"], {"ray-node-type": "head"}, 1)
    assert not ec2 - actions("laptop.json")

    ec2.clear()
    for node in ("spot", "on_demand"):
        tags = {"ray-node-type": "worker", "ray-user-node-type": node, "ray-node-status": "uninitialized"}
        provider.create_node(types[node]["node_config"], tags, 1)
    launched = machines()
    workers = provider.non_terminated_nodes({"ray-node-type": "worker"})
    for node in workers:
        provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
    provider.terminate_nodes(workers)
    assert not provider.non_terminated_nodes({"ray-node-type": "worker"})
    assert not ec2 - actions("head.json")

    assert sorted(machine.get("InstanceLifecycle", "on demand") for machine in launched) == [
        "on demand",
        "on demand",
        "spot",
    ]
    for machine in launched:
        assert {"Key": "ray-cluster-name", "Value": "saeft"} in machine["Tags"]  # what the policies go by
        assert machine["IamInstanceProfile"]["Arn"].rpartition("/")[2] in {"saeft-head", "saeft-worker"}


def machines():
    described = boto3.client("ec2", "us-east-1").describe_instances()["Reservations"]
    return [machine for reservation in described for machine in reservation["Instances"]]


@pytest.mark.parametrize(
    ("unavailable", "wanted"), [({}, {"spot": 2}), ({"spot": 0.0}, {"on_demand": 2})], ids=["spot", "no spot"]
)
def test_the_autoscaler_prefers_spot_and_falls_back(unavailable, wanted):
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    config = prepare_config(read("gpu.yaml"))
    for node in ("spot", "on_demand"):  # as Ray fills in of this instance type: the test above
        config["available_node_types"][node]["resources"] = {"CPU": 16, "GPU": 1}
    autoscaling = AutoscalingConfig(config, skip_content_hash=True)
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=autoscaling.get_node_type_configs(),
            max_num_nodes=autoscaling.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count(
                [ResourceRequestUtil.make({"GPU": 1, "CPU": 8}) for _ in range(2)]
            ),
            recoverable_resource_availabilities=unavailable,
        )
    )
    launched = {launch.instance_type: launch.count for launch in reply.to_launch if launch.instance_type != "head"}
    assert launched == wanted


def test_trials_on_several_workers_count_on_the_machines_that_the_cluster_may_start(monkeypatch):
    """At the start of a sweep there is the head alone."""
    from saeft_ray.on_ray import tune

    compute = Compute(workers=2, cpus=8, gpus=1)
    plan = SimpleNamespace(config=SimpleNamespace(compute=compute))
    state = ray._private.state.state
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: None)
    with pytest.raises(
        ValueError, match="2 workers per trial need 16 CPUs and 2 GPUs; the cluster has 8 CPUs and 0 GPUs"
    ):
        tune._concurrent(plan)
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: {"CPU": 136, "GPU": 8})
    assert tune._concurrent(plan) == 4


# Rights --------------------------------------------------------------------------------------------------------


def statements(name):
    return json.loads((CLUSTER / "iam" / name).read_text())["Statement"]


def listed(value):
    return value if isinstance(value, list) else [value]


def actions(name):
    return {action for statement in statements(name) for action in listed(statement["Action"])}


NOT_OPERATIONS = {"PassRole", "ListBucket", "ListMultipartUploadParts"}  # rights of other names than what they allow


@lru_cache
def operations(service):
    return {*botocore.session.get_session().get_service_model(service).operation_names}


@pytest.mark.parametrize("name", sorted(path.name for path in (CLUSTER / "iam").glob("*.json")))
def test_no_right_is_a_wildcard(name):
    for statement in statements(name):
        for action in listed(statement["Action"]):
            service, _, operation = action.partition(":")
            assert operation in operations(service) | NOT_OPERATIONS, action
            if not operation.startswith("Describe") and "Resource" in statement:
                assert "*" not in listed(statement["Resource"])


def test_only_the_head_may_start_machines_and_only_of_this_cluster():
    assert {action for action in actions("bucket.json") if not action.startswith("s3:")} == set()
    for name in ("head.json", "laptop.json"):
        for statement in statements(name):
            if "ec2:TerminateInstances" in statement["Action"]:
                assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "saeft"}}


# Versions ------------------------------------------------------------------------------------------------------


def pins():
    lines = (CLUSTER / "pins.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_every_dependency_is_pinned_to_a_version_that_the_project_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {r.name.lower(): r.specifier for r in map(Requirement, project["dependencies"])}
    assert wanted.keys() == pins().keys()
    for name, version in pins().items():
        assert version in wanted[name], name
    for file in ("gpu.yaml", "onprem.yaml"):
        assert any("-c ~/checkout/cluster/pins.txt" in line for line in read(file)["setup_commands"])


# KubeRay -------------------------------------------------------------------------------------------------------


def test_kuberay_knows_every_field_of_the_manifest():
    manifest = read("kuberay.yaml")
    assert kuberay.mistakes(manifest) == []
    broken = copy.deepcopy(manifest)
    spec = broken["spec"]["rayClusterSpec"]
    spec["workerGroupSpecs"][0]["maxReplica"] = spec["workerGroupSpecs"][0].pop("maxReplicas")
    spec["headGroupSpec"]["template"]["spec"]["containers"][0]["img"] = "x"
    broken["spec"] |= {"backoffLimit": "3", "submissionMode": "K8sMode"}
    assert len(kuberay.mistakes(broken)) == 4


@pytest.mark.skipif("KUBERAY_CRD" not in os.environ, reason="KUBERAY_CRD names no CustomResourceDefinition of rayjobs")
def test_the_operators_own_schema_accepts_the_manifest():
    """`kubectl get crd rayjobs.ray.io -o yaml > crd.yaml; KUBERAY_CRD=crd.yaml pytest tests/test_cluster.py`."""
    schema = kuberay.strict(yaml.load(Path(os.environ["KUBERAY_CRD"]).read_text(), yaml.CSafeLoader))
    jsonschema.validate(read("kuberay.yaml"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**read("kuberay.yaml"), "spec": {"entrypoints": "python"}}, schema)


def test_the_manifest_fits_the_project():
    manifest = read("kuberay.yaml")
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == pins()["ray"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
    assert json.loads(cluster["headGroupSpec"]["rayStartParams"]["resources"].strip("'")) == '{"head": 1}'
    file = manifest["spec"]["entrypoint"].split()[-1]
    assert (ROOT / file).is_file()
    assert "name" not in manifest["metadata"]  # so that it can be created again, and resume
