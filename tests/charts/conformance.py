"""A rendered Kubeflow Pipelines and the table of upstream's facts, both as paths with values, and how they differ.

The table is kfp_2_17_0.yaml. A path reads like deployments/ml-pipeline/containers/ml-pipeline-api-server/env/LOG_LEVEL.
Names, images, ports, environment, arguments, configuration, rights and probes are compared; the script of an init
container is not.
"""

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
TABLE = Path(__file__).with_name("kfp_2_17_0.yaml")
NAMESPACE = "kubeflow"
_MARK = ("application-crd-id", "kubeflow-pipelines")
_GATHER = "rbac.authorization.kubeflow.org/"


def flat(value: Any, path: str = "") -> dict[str, str]:  # noqa: ANN401 - any YAML
    """Every leaf of nested mappings by its path; a list is the set of its items."""
    if isinstance(value, Mapping):
        leaves: dict[str, str] = {}
        for key, each in value.items():
            leaves |= flat(each, f"{path}/{key}" if path else str(key))
        return leaves
    if isinstance(value, list):
        return {f"{path}/{item}": "there" for item in value} or {path: "there"}
    return {path: str(value).lower() if isinstance(value, bool) else str(value)}


def merged(base: Any, change: Any) -> Any:  # noqa: ANN401 - any YAML
    """The base with the change over it: mappings are merged, null takes away, all else replaces."""
    if not (isinstance(base, Mapping) and isinstance(change, Mapping)):
        return change
    result = dict(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(base.get(key), value)
    return result


def expected(table: Mapping[str, Any], mode: str, namespace: str = "team-vision") -> dict[str, str]:
    """What upstream's manifests come to in that mode. namespace: a team's, for what is in each of them."""
    facts = table["standalone"]
    if mode == "multi-user":
        facts = json.loads(json.dumps(merged(facts, table["multi-user"])).replace("NAMESPACE/", f"{namespace}/"))
    return flat(_with_rules(facts))


def _with_rules(facts: Mapping[str, Any]) -> dict[str, Any]:
    rights = {
        section: {
            role: sorted(granted for rule in rules for granted in _granted(rule)) for role, rules in roles.items()
        }
        for section, roles in facts.items()
        if section in {"roles", "clusterroles"}
    }
    return {**facts, **rights}


def _granted(rule: str) -> Iterable[str]:
    """Every single right of a rule of the table."""
    if "|" not in rule:
        return [rule]
    groups, resources, verbs, *names = ([*part.split()] for part in rule.split("|"))
    return _rights(groups, resources, verbs, names[0] if names else [])


def _rights(
    groups: Iterable[str], resources: Iterable[str], verbs: Iterable[str], names: Iterable[str]
) -> Iterable[str]:
    return [
        f"{verb} {resource} of {group or 'core'}{named}"
        for group in groups
        for resource in resources
        for verb in verbs
        for named in ([f" named {name}" for name in names] or [""])
    ]


def found(objects: Iterable[Object], crds: Iterable[Object], *, team_namespace: str = "team-vision") -> dict[str, str]:
    """What a rendered chart comes to. Raises AssertionError for an object of a kind that this does not read."""
    own = [each for each in objects if each["metadata"].get("labels", {}).get(_MARK[0]) == _MARK[1]]
    of_team = [each for each in own if each["metadata"].get("namespace") == team_namespace]
    facts = _facts([each for each in own if each not in of_team])
    facts["crds"] = sorted(_crd(each) for each in crds)
    if of_team:
        facts["namespace"] = _facts(of_team)
    return flat(facts)


def _facts(objects: Iterable[Object]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for each in objects:
        section, value = _READERS[each["kind"]](each)
        name = each["metadata"]["name"]
        if value is None:
            facts.setdefault(section, []).append(name)
        else:
            assert name not in facts.setdefault(section, {}), f"{each['kind']} {name}: twice"
            facts[section][name] = value
    secrets = {path.split(":")[1].split("/")[0] for path in flat(facts).values() if path.startswith("secret:")}
    providers = facts.get("configmaps", {}).get("kfp-launcher", {}).get("providers", {})
    secrets |= {value for path, value in flat(providers).items() if path.endswith("secretName")}
    facts["secrets"] = sorted(secrets)
    facts["aggregated"] = {each["metadata"]["name"]: value for each in objects if (value := _gathering(each))}
    return {section: value for section, value in facts.items() if value}


def _workload(each: Object) -> tuple[str, dict[str, Any]]:
    spec = each["spec"]
    pod = spec["template"]["spec"]
    volumes = {volume["name"]: _volume(volume) for volume in pod.get("volumes", [])}
    facts = {
        "account": pod.get("serviceAccountName", "default"),
        "selector": spec["selector"]["matchLabels"],
        "init": {one["name"]: _init(one) for one in pod.get("initContainers", [])},
        "containers": {one["name"]: _container(one, volumes) for one in pod["containers"]},
    }
    strategy = spec.get("strategy", {}).get("type", "RollingUpdate")
    if strategy != "RollingUpdate":
        facts["strategy"] = strategy
    return "deployments", facts


def _init(container: Object) -> dict[str, Any]:
    return {"image": container["image"], "env": {one["name"]: _source(one) for one in container.get("env", [])}}


def _container(container: Object, volumes: Mapping[str, str]) -> dict[str, Any]:
    resources = container.get("resources", {})
    security = container["securityContext"]
    facts: dict[str, Any] = {
        "image": container["image"],
        "command": container.get("command"),
        "args": container.get("args"),
        "ports": {str(port["containerPort"]): port.get("name", "") for port in container.get("ports", [])},
        "env": {one["name"]: _source(one) for one in container.get("env", [])},
        "env-from": [one["configMapRef"]["name"] for one in container.get("envFrom", [])],
        "requests": resources.get("requests"),
        "limits": resources.get("limits"),
        "mounts": {one["mountPath"]: volumes[one["name"]] for one in container.get("volumeMounts", [])},
        "read-only": "yes" if security["readOnlyRootFilesystem"] else None,
    }
    facts |= {probe: _probe(container.get(f"{probe}Probe")) for probe in ("startup", "readiness", "liveness")}
    return {key: value for key, value in facts.items() if value}


def _source(variable: Object) -> str:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    ((kind, where),) = source.items()
    if kind == "fieldRef":
        return f"field:{where['fieldPath']}"
    scheme = {"secretKeyRef": "secret", "configMapKeyRef": "cm"}[kind]
    return f"{scheme}{'?' if where.get('optional') else ''}:{where['name']}/{where['key']}"


def _volume(volume: Object) -> str:
    if "configMap" in volume:
        return f"cm{'?' if volume['configMap'].get('optional') else ''}:{volume['configMap']['name']}"
    if "secret" in volume:
        return f"secret:{volume['secret']['secretName']}"
    if "projected" in volume:
        (source,) = volume["projected"]["sources"]
        token = source["serviceAccountToken"]
        return f"token:{token['audience']}/{token['expirationSeconds']}/{token['path']}"
    assert "emptyDir" in volume, volume
    return "scratch"


def _probe(probe: Object | None) -> dict[str, Any] | None:
    if probe is None:
        return None
    asked = (
        {"get": f"{probe['httpGet']['port']}{probe['httpGet']['path']}"}
        if "httpGet" in probe
        else {"tcp": probe["tcpSocket"]["port"]}
    )
    times = (
        ("delay", "initialDelaySeconds", 0),
        ("period", "periodSeconds", 10),
        ("timeout", "timeoutSeconds", 1),
        ("failures", "failureThreshold", 3),
    )
    return asked | {name: probe[field] for name, field, default in times if probe.get(field, default) != default}


def _service(each: Object) -> tuple[str, dict[str, Any]]:
    ports = each["spec"]["ports"]
    facts = {
        "selector": each["spec"]["selector"],
        "ports": {str(port["port"]): str(port.get("targetPort", port["port"])) for port in ports},
        "names": {str(port["port"]): port["name"] for port in ports if "name" in port},
        "annotations": {
            key: value
            for key, value in each["metadata"].get("annotations", {}).items()
            if key.startswith("prometheus.io/")
        },
    }
    return "services", facts


def _configmap(each: Object) -> tuple[str, dict[str, Any]]:
    data = each["data"]
    if "envoy-config.yaml" in data:
        return "configmaps", envoy(yaml.safe_load(data["envoy-config.yaml"]))
    return "configmaps", {key: _parsed(key, text) for key, text in data.items()}


def _parsed(key: str, text: str) -> Any:  # noqa: ANN401 - JSON or YAML
    structured = key.endswith(".json") or key in {"providers", "plugins.mlflow", "default"}
    return yaml.safe_load(text) if structured else text


def envoy(configuration: Object) -> dict[str, Any]:
    """What an Envoy's configuration comes to."""
    static = configuration["static_resources"]
    facts: dict[str, Any] = {"admin": _address(configuration["admin"]["address"])}
    several = len(static["listeners"]) > 1
    clusters = {cluster["name"]: cluster for cluster in static["clusters"]}
    for listener in static["listeners"]:
        (chain,) = listener["filter_chains"]
        (manager,) = chain["filters"]
        (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
        (route,) = host["routes"]
        cluster = clusters[route["route"]["cluster"]]
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        of = {
            "listener": _address(listener["address"]),
            "filters": [each["name"] for each in manager["typed_config"]["http_filters"]],
            "removed": manager["typed_config"]["route_config"].get("request_headers_to_remove", []),
            "upstream": _address(endpoint["endpoint"]["address"]),
            "upstream-protocol": "http2" if "typed_extension_protocol_options" in cluster else "http1",
        }
        facts |= {listener["name"]: of} if several else {key: value for key, value in of.items() if value}
    return facts


def _address(address: Object) -> str:
    socket = address["socket_address"]
    return f"{socket['address']}:{socket['port_value']}"


def _role(each: Object) -> tuple[str, list[str]]:
    granted = {
        right
        for rule in each.get("rules") or []
        for right in _rights(rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", []))
    }
    return ("roles" if each["kind"] == "Role" else "clusterroles"), sorted(granted)


def _binding(each: Object) -> tuple[str, str]:
    to = " and ".join(subject["name"] for subject in each["subjects"])
    section = "bindings" if each["kind"] == "RoleBinding" else "clusterbindings"
    return section, f"{each['roleRef']['kind']} {each['roleRef']['name']} to {to}"


def _gathering(each: Object) -> dict[str, Any] | None:
    if each["kind"] != "ClusterRole":
        return None
    labels = [
        key.removeprefix(_GATHER)
        for key, value in each["metadata"]["labels"].items()
        if key.startswith(_GATHER) and value == "true"
    ]
    facts: dict[str, Any] = {"gathered": sorted(labels)} if labels else {}
    if "aggregationRule" in each:
        (selector,) = each["aggregationRule"]["clusterRoleSelectors"]
        ((label, _),) = selector["matchLabels"].items()
        facts["gathers"] = label.removeprefix(_GATHER)
    return facts


def _webhook(each: Object) -> tuple[str, dict[str, Any]]:
    (hook,) = each["webhooks"]
    service = hook["clientConfig"]["service"]
    (rule,) = hook["rules"]
    return "webhooks", {
        "path": f"{service['name']}{service['path']}:{service['port']}",
        "failure": hook["failurePolicy"],
        "selector": hook["objectSelector"]["matchLabels"],
        "operations": " ".join([*rule["operations"], *rule["resources"]]),
        "timeout": hook["timeoutSeconds"],
        "reviews": " ".join(hook["admissionReviewVersions"]),
    }


def _certificate(each: Object) -> tuple[str, dict[str, Any]]:
    spec = each["spec"]
    return "certificates", {
        "issuer": spec["issuerRef"]["name"],
        "secret": spec["secretName"],
        "names": spec["dnsNames"],
    }


def _crd(each: Object) -> str:
    (version,) = each["spec"]["versions"]
    return f"{each['metadata']['name']}/{version['name']}/{' '.join(each['spec']['names'].get('shortNames', []))}"


def _listed(section: str) -> Any:  # noqa: ANN401 - a reader
    return lambda _: (section, None)


_READERS: dict[str, Any] = {
    "Deployment": _workload,
    "Service": _service,
    "ConfigMap": _configmap,
    "Role": _role,
    "ClusterRole": _role,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "MutatingWebhookConfiguration": _webhook,
    "Certificate": _certificate,
    "Issuer": _listed("issuers"),
    "ServiceAccount": _listed("accounts"),
    "NetworkPolicy": _listed("networkpolicies"),
    "LocalQueue": _listed("queues"),
}


def differences(facts: Mapping[str, str], chart: Mapping[str, str]) -> dict[str, str]:
    """Path to what upstream has and what the chart has, where they are not the same."""
    nothing = "nothing"
    return {
        path: f"upstream {facts.get(path, nothing)!r}, here {chart.get(path, nothing)!r}"
        for path in sorted(facts.keys() | chart.keys())
        if facts.get(path) != chart.get(path)
    }


def faults(deviations: Iterable[Mapping[str, Any]], different: Mapping[str, str], mode: str) -> list[str]:
    """What is wrong: a difference that no deviation lists, and a listed deviation that is none (any more)."""
    here = [each for each in deviations if mode in each.get("modes", ("standalone", "multi-user"))]
    patterns = [pattern for each in here for pattern in each["at"]]
    unlisted = [
        f"{path}: {how}; not among the deviations"
        for path, how in different.items()
        if not any(fnmatchcase(path, pattern) for pattern in patterns)
    ]
    void = [
        f"{pattern}: listed as a deviation, and there is none"
        for pattern in patterns
        if not any(fnmatchcase(path, pattern) for path in different)
    ]
    return unlisted + void
