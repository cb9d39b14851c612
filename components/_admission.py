"""Rules that the API server judges what is made by (ValidatingAdmissionPolicy): there is no webhook to be down."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s


def enforce(
    name: str, rules: Mapping[str, Mapping[str, Any]], tags: dict[str, str], *, parent: pulumi.Resource
) -> None:
    """Declare each policy with a binding that denies. name: what resources begin with. rules: name to spec."""
    own = pulumi.ResourceOptions(parent=parent)
    for rule, spec in rules.items():
        policy = k8s.admissionregistration.v1.ValidatingAdmissionPolicy(
            f"{name}-{rule}", metadata={"name": rule, "labels": tags}, spec=spec, opts=own
        )
        k8s.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{name}-{rule}-binding",
            metadata={"name": rule, "labels": tags},
            spec={"policyName": policy.metadata["name"], "validationActions": ["Deny"]},
            opts=own,
        )
