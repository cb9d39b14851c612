"""What everything else stands on: namespaces, priority classes, certificates, and rules that hold for everyone.

The rules are ValidatingAdmissionPolicies: evaluated in the API server, so there is no webhook to be down.
"""

import dataclasses as dc
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._admission import enforce
from components._charts import UpstreamChart, controller
from components._labels import OWNER, TEAM, labels, restricted
from components._network import closed_namespace

QUEUE = "kueue.x-k8s.io/queue-name"
ADMITTED_BY = "kueue.x-k8s.io/local-queue-name"
"""What Kueue 0.19 puts on the pods of a Job that it has admitted."""


@dc.dataclass(frozen=True, kw_only=True)
class FoundationArgs:
    """priorities: PriorityClass name to value; a higher one may preempt a lower one. At most 1,000,000,000.

    The platform's own pods get the highest.
    """

    priorities: tuple[tuple[str, int], ...] = (
        ("kiban-platform", 1_000_000),
        ("kiban-serving", 100_000),
        ("kiban-training", 10_000),
        ("kiban-best-effort", 0),
    )

    def __post_init__(self) -> None:
        if not self.priorities:
            raise ValueError("priorities: none; accepted: at least one, for the platform's own pods")
        for name, value in self.priorities:
            if not -1_000_000_000 <= value <= 1_000_000_000:
                raise ValueError(
                    f"priority {name!r}: value={value}; accepted: -1000000000 to 1000000000 (above is Kubernetes' own)"
                )


class Foundation(pulumi.ComponentResource):
    """Namespaces of the platform with Pod Security, priority classes, NetworkPolicies, admission rules, cert-manager.

    `system_namespace` is where the platform keeps its own configuration; `priorities` are the classes by name, and
    `highest` is the name of the one for the platform's own pods.
    """

    system_namespace: pulumi.Output[str]
    priorities: dict[str, k8s.scheduling.v1.PriorityClass]
    highest: str

    def __init__(
        self,
        name: str,
        args: FoundationArgs,
        *,
        cert_manager: UpstreamChart | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:Foundation", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        tags = labels("foundation", name)
        system = k8s.core.v1.Namespace(
            f"{name}-system", metadata={"name": "kiban-system", "labels": tags | restricted()}, opts=own
        )
        closed_namespace(f"{name}-system", system, tags, parent=self)
        self.priorities = {
            priority: k8s.scheduling.v1.PriorityClass(
                f"{name}-{priority}", metadata={"name": priority, "labels": tags}, value=value, opts=own
            )
            for priority, value in args.priorities
        }
        self.highest = max(args.priorities, key=lambda each: each[1])[0]
        enforce(name, admission_rules(), tags, parent=self)
        if cert_manager is not None:
            controller(
                f"{name}-cert-manager",
                cert_manager,
                namespace="cert-manager",
                called_on=[10250],
                values=cert_manager_values(priority=self.highest),
                tags=tags,
                parent=self,
                after=[self.priorities[self.highest]],
            )
        self.system_namespace = system.metadata["name"]
        self.register_outputs({"system_namespace": self.system_namespace})


def cert_manager_values(*, priority: str) -> dict[str, Any]:
    """Values of cert-manager's chart (1.21): three Deployments, and leases in their own namespace."""
    resources = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
    return {
        "crds": {"enabled": True, "keep": False},
        "global": {"priorityClassName": priority, "leaderElection": {"namespace": "cert-manager"}},
        "resources": resources,
        "cainjector": {"resources": resources},
        "webhook": {"resources": resources, "readinessProbe": {"initialDelaySeconds": 1, "periodSeconds": 2}},
        "startupapicheck": {"enabled": False},  # a hook, which Pulumi leaves out
    }


def admission_rules() -> dict[str, dict[str, Any]]:
    """ValidatingAdmissionPolicy name to spec."""
    containers = "(object.spec.containers + object.spec.?initContainers.orValue([]))"
    digest = "c.image.matches('@sha256:[0-9a-f]{64}$')"
    tagged = f"{digest} || (c.image.matches(':[^/:]+$') && !c.image.endsWith(':latest'))"
    gpus = "c.?resources.?requests.orValue({}).exists(r, r.startsWith('nvidia.com/'))"
    return {
        "kiban-no-floating-tags": _rule(
            resource="pods",
            selector={"matchExpressions": [_not_in("kubernetes.io/metadata.name", "kube-system")]},
            expression=f"{containers}.all(c, {tagged})",
            message="an image needs a tag other than latest, or a digest",
        ),
        "kiban-gpu-pods-name-a-queue": _rule(
            resource="pods",
            selector={"matchExpressions": [{"key": TEAM, "operator": "Exists"}]},
            expression=f"!{containers}.exists(c, {gpus})"
            f" || ['{QUEUE}', '{ADMITTED_BY}'].exists(l, l in object.metadata.?labels.orValue({{}}))",
            message=f"a pod that asks for GPUs needs the label {QUEUE}",
        ),
        "kiban-team-namespaces-have-an-owner": _rule(
            resource="namespaces",
            selector={"matchExpressions": [{"key": TEAM, "operator": "Exists"}]},
            expression=f"'{OWNER}' in object.metadata.labels",
            message=f"a team's namespace needs the label {OWNER}",
        ),
    }


def _not_in(key: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": "NotIn", "values": list(values)}


def _rule(*, resource: str, selector: dict[str, Any], expression: str, message: str) -> dict[str, Any]:
    operations = ["CREATE", "UPDATE"]
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": selector,
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": [resource]}
            ],
        },
        "validations": [{"expression": expression, "message": message}],
    }
