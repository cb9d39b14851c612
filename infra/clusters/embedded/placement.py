"""Which pods run on the real node of an embedded cluster: those whose images it has and that ask for no device.

A MutatingAdmissionPolicy sends them there, with requests cut to fit one machine; what they asked for stays in an
annotation. All others go to simulated nodes. The bundle knows nothing of it. Nodes carry no taint for it: those of a
simulated node are the ones that its real counterpart has, so that a pod's own tolerations are judged.
"""

from collections.abc import Iterable

from components._labels import POOL, SIMULATED
from infra.clusters.embedded import node
from infra.clusters.embedded.api import Api, Object

NAME = "kiban-placement"
KEEPING = "kiban-placement-keeping"
REQUESTS = "kiban.dev/requests"
"""Pod annotation: what the containers requested before it was cut, as `NAME cpu=1,memory=1Gi; NAME ...`."""
_CUT = '{"cpu": "5m", "memory": "8Mi"}'
_DEVICES = "nvidia.com/"


def images(references: Iterable[str]) -> Object:
    """The ConfigMap of the images that the real node has, each as a manifest may write it."""
    known = sorted({name for reference in references for name in spellings(reference)})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": "kube-system"},
        "data": {"images": " ".join(known)},
    }


def spellings(reference: str) -> tuple[str, ...]:
    """A reference as given, and without what Docker Hub lets one leave out."""
    short = reference.removeprefix("docker.io/")
    return tuple(dict.fromkeys((reference, short, short.removeprefix("library/"))))


def policy() -> Object:
    """The MutatingAdmissionPolicy."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",  # a webhook may yet add a container
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
                ]
            },
            "matchConditions": [
                {"name": "not-placed-by-its-maker", "expression": "!has(object.spec.nodeName)"},
                {
                    "name": "not-of-a-daemon-set",  # its pods name their node already
                    "expression": "!object.metadata.?ownerReferences.orValue([]).exists(o, o.kind == 'DaemonSet')",
                },
            ],
            "variables": _variables(),
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": _patch()}}],
        },
    }


def keeping() -> Object:
    """The MutatingAdmissionPolicy that keeps such a pod on the real node when a queue lets it go.

    Kueue adds its flavor's node labels to a pod that it had held back, and the real node is of no pool.
    """
    pool = f"'{POOL}' in"
    placed = "oldObject.spec.?nodeSelector['kubernetes.io/hostname']"
    conditions = {
        "placed-on-the-real-node": f"{placed}.orValue('') == '{node.NAME}'",
        "sent-to-a-pool": f"!({pool} oldObject.spec.nodeSelector) && {pool} object.spec.nodeSelector",
    }
    remove = f"[JSONPatch{{op: 'remove', path: '/spec/nodeSelector/{_escaped(POOL)}'}}]"
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": KEEPING},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
                ]
            },
            "matchConditions": [{"name": name, "expression": expression} for name, expression in conditions.items()],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": remove}}],
        },
    }


def keeping_binding() -> Object:
    """The binding of `keeping`, which needs no list."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": KEEPING},
        "spec": {"policyName": KEEPING},
    }


def binding() -> Object:
    """The policy's binding to the list of images."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": NAME},
        "spec": {
            "policyName": NAME,
            "paramRef": {"name": NAME, "namespace": "kube-system", "parameterNotFoundAction": "Deny"},
        },
    }


def holds(api: Api) -> bool:
    """Whether the API server applies the policy by now: it takes a second to hear of it."""
    container = {"name": "asks", "image": "kiban.dev/no-such-image:1"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "placed-", "namespace": "kube-system"},
        "spec": {"containers": [container]},
    }
    placed = api.dry_run("/api/v1/namespaces/kube-system/pods", pod)
    return SIMULATED in placed["spec"].get("nodeSelector", {})


def _variables() -> list[Object]:
    expressions = {
        "init": "object.spec.?initContainers.orValue([])",
        "all": "object.spec.containers + variables.init",
        "device": (
            f"variables.all.exists(c, c.?resources.?requests.orValue({{}}).exists(r, r.startsWith('{_DEVICES}')))"
        ),
        "real": "!variables.device && variables.all.all(c, c.image in params.data.images.split(' '))",
        "annotations": "object.metadata.?annotations.orValue({})",
        "requests": (
            "variables.all.filter(c, c.?resources.?requests.orValue({}).size() > 0)"
            ".map(c, c.name + ' ' + c.resources.requests.map(r, r + '=' + string(c.resources.requests[r])).join(','))"
            ".join('; ')"
        ),
    }
    return [{"name": name, "expression": expression} for name, expression in expressions.items()]


def _patch() -> str:
    """The operations of JSON Patch (RFC 6902) on a pod, in CEL."""
    here = _add("nodeSelector", f"{{'kubernetes.io/hostname': '{node.NAME}'}}")
    cut = " + ".join(
        f"{those}.map(c, " + _add(f"{field}/' + string({those}.indexOf(c)) + '/resources/requests", _CUT) + ")"
        for field, those in (("containers", "object.spec.containers"), ("initContainers", "variables.init"))
    )
    # one real node cannot keep replicas apart, nor has it the labels of a pool
    dropped = " + ".join(
        f"(has(object.spec.{field}) ? [JSONPatch{{op: 'remove', path: '/spec/{field}'}}] : [])"
        for field in ("affinity", "topologySpreadConstraints")
    )
    more, only = (
        _add(f"nodeSelector/{_escaped(SIMULATED)}", "'true'"),
        _add("nodeSelector", f"{{'{SIMULATED}': 'true'}}"),
    )
    elsewhere = f"has(object.spec.nodeSelector) ? [{more}] : [{only}]"
    return f"variables.real ? [{here}] + {cut} + ({_remembered()}) + {dropped} : ({elsewhere})"


def _remembered() -> str:
    first = f"{{'{REQUESTS}': variables.requests}}"
    return (
        f"(variables.requests == '' || '{REQUESTS}' in variables.annotations) ? [] : variables.annotations.size() == 0 "
        f"? [JSONPatch{{op: 'add', path: '/metadata/annotations', value: {first}}}] "
        f": [JSONPatch{{op: 'add', path: '/metadata/annotations/{_escaped(REQUESTS)}', value: variables.requests}}]"
    )


def _add(path: str, value: str) -> str:
    return f"JSONPatch{{op: 'add', path: '/spec/{path}', value: {value}}}"


def _escaped(key: str) -> str:
    return key.replace("/", "~1")
