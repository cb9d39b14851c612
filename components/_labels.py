"""Labels on everything that Kiban makes. The selector's three are frozen: changing one breaks upgrades."""

MANAGED_BY = "app.kubernetes.io/managed-by"
POOL = "kiban.dev/pool"
TEAM = "kiban.dev/team"
OWNER = "kiban.dev/owner"
ENVIRONMENT = "kiban.dev/environment"
SIMULATED = "kiban.dev/simulated"
CAPACITY = "kiban.dev/capacity"


def selector(component: str, instance: str) -> dict[str, str]:
    """The labels by which a workload's pods are found; immutable once released."""
    return {
        "app.kubernetes.io/name": component,
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": component,
    }


def labels(component: str, instance: str) -> dict[str, str]:
    """The labels of an object: its selector's, and who keeps it."""
    return selector(component, instance) | {MANAGED_BY: "kiban", "app.kubernetes.io/part-of": "kiban"}


def restricted() -> dict[str, str]:
    """Namespace labels that enforce Pod Security `restricted`, and warn about and audit what breaks it."""
    return {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


def privileged() -> dict[str, str]:
    """Namespace labels for pods that work on their node itself; nothing else belongs into such a namespace."""
    return {"pod-security.kubernetes.io/enforce": "privileged"}
