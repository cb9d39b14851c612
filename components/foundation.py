"""What everything else stands on: namespaces, priority classes, and rules that hold for everyone.

The rules are ValidatingAdmissionPolicies: evaluated in the API server, so there is no webhook to be down.
"""

import dataclasses as dc
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._labels import OWNER, TEAM, labels
from components._network import closed_namespace

QUEUE = "kueue.x-k8s.io/queue-name"


@dc.dataclass(frozen=True, kw_only=True)
class FoundationArgs:
    """priorities: PriorityClass name to value; a higher one may preempt a lower one. At most 1,000,000,000."""

    priorities: tuple[tuple[str, int], ...] = (
        ("kiban-platform", 1_000_000),
        ("kiban-serving", 100_000),
        ("kiban-training", 10_000),
        ("kiban-best-effort", 0),
    )

    def __post_init__(self) -> None:
        for name, value in self.priorities:
            if not -1_000_000_000 <= value <= 1_000_000_000:
                raise ValueError(
                    f"priority {name!r}: value={value}; accepted: -1000000000 to 1000000000 (above is Kubernetes' own)"
                )


class Foundation(pulumi.ComponentResource):
    """Namespaces of the platform with Pod Security, priority classes, default NetworkPolicies, admission rules.

    `system_namespace` is where the platform keeps its own configuration.
    """

    system_namespace: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        args: FoundationArgs,
        *,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:Foundation", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        tags = labels("foundation", name)
        system = k8s.core.v1.Namespace(
            f"{name}-system", metadata={"name": "kiban-system", "labels": tags | restricted()}, opts=own
        )
        closed_namespace(f"{name}-system", system, tags, parent=self)
        for priority, value in args.priorities:
            k8s.scheduling.v1.PriorityClass(
                f"{name}-{priority}", metadata={"name": priority, "labels": tags}, value=value, opts=own
            )
        for rule, spec in admission_rules().items():
            policy = k8s.admissionregistration.v1.ValidatingAdmissionPolicy(
                f"{name}-{rule}", metadata={"name": rule, "labels": tags}, spec=spec, opts=own
            )
            k8s.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
                f"{name}-{rule}-binding",
                metadata={"name": rule, "labels": tags},
                spec={"policyName": policy.metadata["name"], "validationActions": ["Deny"]},
                opts=own,
            )
        self.system_namespace = system.metadata["name"]
        self.register_outputs({"system_namespace": self.system_namespace})


def restricted() -> dict[str, str]:
    """Namespace labels that enforce Pod Security `restricted`, and warn about and audit what breaks it."""
    return {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


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
            expression=f"!{containers}.exists(c, {gpus}) || '{QUEUE}' in object.metadata.?labels.orValue({{}})",
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
