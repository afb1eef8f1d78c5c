"""The fields of a RayJob (ray.io/v1) and of the pods in it, as far as cluster/kuberay.yaml may use them.

An object is a dict of its fields, a list a list of one form; `map` stands for any mapping of text to text, a set for
its members, a type for itself. The whole schema is in the operator's CustomResourceDefinition: `strict`.
"""

from typing import Any

map = object()

RESOURCES = {"requests": map, "limits": map}
CONTAINER = {
    "name": str,
    "image": str,
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "env": [{"name": str, "value": str}],
    "envFrom": [{"secretRef": {"name": str}}],
    "resources": RESOURCES,
    "volumeMounts": [{"name": str, "mountPath": str, "subPath": str, "readOnly": bool}],
}
POD = {
    "metadata": {"labels": map, "annotations": map},
    "spec": {
        "serviceAccountName": str,
        "terminationGracePeriodSeconds": int,
        "nodeSelector": map,
        "tolerations": [{"key": str, "operator": {"Exists", "Equal"}, "value": str, "effect": str}],
        "containers": [CONTAINER],
        "volumes": [{"name": str, "emptyDir": {"medium": str, "sizeLimit": str}}],
    },
}
RAYJOB: dict[str, Any] = {
    "apiVersion": {"ray.io/v1"},
    "kind": {"RayJob"},
    "metadata": {"name": str, "generateName": str, "namespace": str, "labels": map},
    "spec": {
        "entrypoint": str,
        "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
        "backoffLimit": int,
        "activeDeadlineSeconds": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "runtimeEnvYAML": str,
        "suspend": bool,
        "rayClusterSpec": {
            "rayVersion": str,
            "enableInTreeAutoscaling": bool,
            "autoscalerOptions": {"version": {"v1", "v2"}, "idleTimeoutSeconds": int, "resources": RESOURCES},
            "authOptions": {"mode": {"disabled", "token"}},
            "headGroupSpec": {"rayStartParams": map, "serviceType": str, "template": POD},
            "workerGroupSpecs": [
                {
                    "groupName": str,
                    "replicas": int,
                    "minReplicas": int,
                    "maxReplicas": int,
                    "idleTimeoutSeconds": int,
                    "priority": int,
                    "rayStartParams": map,
                    "template": POD,
                }
            ],
        },
    },
}


def mistakes(found: Any, form: Any = RAYJOB, place: str = "") -> list[str]:
    """Where `found` is not of `form`: unknown fields and wrong types, each with its place."""
    if isinstance(form, dict):
        if not isinstance(found, dict):
            return [f"{place}: no object"]
        unknown = [f"{place}.{key}: unknown" for key in found.keys() - form.keys()]
        return unknown + [m for k in found.keys() & form.keys() for m in mistakes(found[k], form[k], f"{place}.{k}")]
    if isinstance(form, list):
        if not isinstance(found, list):
            return [f"{place}: no list"]
        return [m for index, one in enumerate(found) for m in mistakes(one, form[0], f"{place}.{index}")]
    if form is map:
        texts = isinstance(found, dict) and all(isinstance(part, str) for pair in found.items() for part in pair)
        return [] if texts else [f"{place}: no map of texts"]
    if isinstance(form, set):
        return [] if found in form else [f"{place}: {found!r} is none of {sorted(form)}"]
    return [] if type(found) is form else [f"{place}: {found!r} is no {form.__name__}"]


def strict(crd: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of version v1 of a CustomResourceDefinition, made to refuse fields that it does not know."""

    def closed(schema: Any) -> Any:
        if isinstance(schema, list):
            return [closed(one) for one in schema]
        if not isinstance(schema, dict):
            return schema
        if schema.get("x-kubernetes-int-or-string"):
            return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
        done = {key: closed(value) for key, value in schema.items()}
        is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
        if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
            done["additionalProperties"] = False
        return done

    (v1,) = [version for version in crd["spec"]["versions"] if version["name"] == "v1"]
    schema: dict[str, Any] = closed(v1["schema"]["openAPIV3Schema"])
    # The API server, not the definition, says what metadata may hold.
    schema["properties"]["metadata"] = {"type": "object"}
    return schema
