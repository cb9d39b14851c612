"""Pod Security in the namespaces of the platform and of teams, and what a team's accounts may see of the others."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from components._labels import ENVIRONMENT, TEAM
from infra.clusters.embedded.api import Api, Refused
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.pods import Pod, first_maker, pods
from infra.rehearsal.snapshot import Object, Snapshot, kind_of, name

_ENFORCED = "pod-security.kubernetes.io/enforce"
_LEVELS = ("privileged", "baseline", "restricted")
_VIOLATES = "violates PodSecurity"
_AT_ONCE = 4
_RBAC = "rbac.authorization.k8s.io"
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


def _spaces(now: Snapshot) -> dict[str, Object]:
    """The namespaces of the platform and of teams, by name."""
    return {
        space["metadata"]["name"]: space
        for space in now.all("Namespace")
        if {ENVIRONMENT, TEAM} & (space["metadata"].get("labels") or {}).keys()
    }


def _pod_security(look: Look) -> Outcome:
    now = look.now
    spaces = _spaces(now)
    before = _spaces(look.base) if look.base else {}
    found = [each for space in spaces.values() for each in _lower(space, before.get(space["metadata"]["name"]))]
    first = first_maker(now)
    found += [_violation(first(each), text) for each, text in _refused(now, spaces)]
    own = {each for each, space in spaces.items() if TEAM not in space["metadata"]["labels"]}
    tried = {  # of what has a template that, and not the pods as they were admitted
        (name(pod.of), pod.namespace): pod
        for pod in pods(now)
        if pod.namespace in own or (pod.namespace in spaces and ENVIRONMENT in (pod.of["metadata"].get("labels") or {}))
    }
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        said = list(pool.map(lambda pod: _said(look.api, pod), tried.values()))
    found += [_violation(pod.of, text) for pod, text in zip(tried.values(), said, strict=True) if text]
    return outcome("executed", [*spaces, *tried], found)


def _said(api: Api, pod: Pod) -> str | None:
    """How a pod of the platform would violate the level of its namespace, as the API server has it."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "rehearsed-", "namespace": pod.namespace, "labels": dict(pod.labels)},
        "spec": {field: value for field, value in pod.spec.items() if field != "nodeName"},
    }
    try:
        api.dry_run(f"/api/v1/namespaces/{pod.namespace}/pods", manifest)
    except Refused as refused:
        return _text(str(refused))
    return None


def _text(message: str) -> str | None:
    _, violates, how = message.partition(_VIOLATES)
    return f"{violates}{how}".removesuffix(" (403)") or None


def _refused(now: Snapshot, spaces: Mapping[str, Object]) -> Iterator[tuple[Object, str]]:
    """What still has fewer pods than it wants, with the event of one that was refused."""
    for event in now.all("Event"):
        of = event["involvedObject"]
        text = _text(event.get("message") or "") if of.get("namespace") in spaces else None
        there = now.find(kind_of(of), of["name"], of["namespace"]) if text else None
        if text and there and there["metadata"].get("uid") == of.get("uid") and _lacks_pods(there):
            yield there, text


def _lacks_pods(maker: Object) -> bool:
    """Of a ReplicaSet, StatefulSet, DaemonSet or Job."""
    spec, status = maker["spec"], maker.get("status", {})
    wanted = spec.get("replicas", status.get("desiredNumberScheduled", spec.get("parallelism", 1)))
    ran = status.get("active", 0) + status.get("succeeded", 0)
    return bool(status.get("replicas", status.get("currentNumberScheduled", ran)) < wanted)


def _violation(of: Object, text: str) -> Finding:
    return Finding(
        object=name(of),
        message=f"its pods are refused: {text}",
        remedy="let them meet the level (components/_pods.py does) rather than lower it for the namespace",
    )


def _level(space: Object) -> str:
    return str((space["metadata"].get("labels") or {}).get(_ENFORCED, _LEVELS[0]))


def _lower(space: Object, before: Object | None) -> Iterator[Finding]:
    least = _level(before) if before else _LEVELS[1]
    level = _level(space)
    if _LEVELS.index(level) < _LEVELS.index(least):
        yield Finding(
            object=name(space),
            message=f"{_ENFORCED}={level}; accepted: {', '.join(_LEVELS[_LEVELS.index(least) :])}",
            remedy=f"label it {_ENFORCED}={_LEVELS[-1]} (components/_labels.py, restricted)",
        )


def _teams_apart(look: Look) -> Outcome:
    """Accounts that the same bindings name outside of their team are alike, and one of them is asked about.

    The API server's authorizer answers: a SubjectAccessReview leaves nothing behind.
    """
    now = look.now
    teams = {
        space["metadata"]["name"]: team
        for space in now.all("Namespace")
        if (team := (space["metadata"].get("labels") or {}).get(TEAM))
    }
    accounts = [each for each in now.all("ServiceAccount") if each["metadata"]["namespace"] in teams]
    given = _bindings(now)
    alike: dict[tuple[str, ...], list[Object]] = {}
    by_name: dict[str, Object] = {}
    for account in accounts:
        own = teams[account["metadata"]["namespace"]]
        foreign = {
            name(binding): binding
            for subject in _subjects(account)
            for binding in given.get(subject, ())
            if teams.get(binding["metadata"].get("namespace", "")) != own
        }
        by_name |= foreign
        alike.setdefault(tuple(sorted(foreign)), []).append(account)
    found = [
        Finding(
            object=name(those[0]),
            message=f"may {may}, outside of its team{f'; as many as {len(those)} accounts may' if those[1:] else ''}",
            remedy=f"take it, or the group that it is in, out of {' or '.join(bindings)}",
        )
        for bindings, those in alike.items()
        for may in _may(look.api, those[0], [by_name[each] for each in bindings], now)
    ]
    return outcome("executed", accounts, found)


def _bindings(now: Snapshot) -> dict[str, list[Object]]:
    """Subject, as the API server calls it, to the bindings that name it."""
    found: dict[str, list[Object]] = {}
    for binding in now.all(f"RoleBinding.{_RBAC}", f"ClusterRoleBinding.{_RBAC}"):
        for subject in binding.get("subjects") or ():
            account = f"system:serviceaccount:{subject.get('namespace')}:{subject['name']}"
            found.setdefault(account if subject["kind"] == "ServiceAccount" else subject["name"], []).append(binding)
    return found


def _subjects(account: Object) -> tuple[str, ...]:
    """What an account is to the authorizer: its user, then the groups that it is in."""
    namespace, own = account["metadata"]["namespace"], account["metadata"]["name"]
    everyone = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return f"system:serviceaccount:{namespace}:{own}", *everyone


def _may(api: Api, account: Object, bindings: Sequence[Object], now: Snapshot) -> Iterator[str]:
    """What the account may do that lets it have another's secrets, in words."""
    user, *groups = _subjects(account)
    for where, verb, attributes in dict.fromkeys(_questions(bindings, now)):
        asked = {"verb": verb, **dict(attributes), **({"namespace": where} if where else {})}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": groups, "resourceAttributes": asked},
        }
        if api.create(_REVIEWS, review)["status"]["allowed"]:
            parts = (asked["resource"], asked.get("subresource"), asked.get("name"))
            yield f"{verb} {'/'.join(filter(None, parts))} in {where or 'all namespaces'}"


_Question = tuple[str, str, tuple[tuple[str, str], ...]]


def _questions(bindings: Sequence[Object], now: Snapshot) -> Iterator[_Question]:
    """Namespace (none: all), verb, and the other attributes of what is asked: of all, and of where a binding leads."""
    secrets = (("group", ""), ("resource", "secrets"))
    for where in ("", *(each["metadata"].get("namespace", "") for each in bindings)):
        yield from ((where, verb, secrets) for verb in ("get", "list", "watch"))
        yield where, "create", (("group", ""), ("resource", "pods"), ("subresource", "exec"))
    for binding in bindings:
        where, role = binding["metadata"].get("namespace", ""), binding["roleRef"]
        of = now.find(f"{role['kind']}.{_RBAC}", role["name"], where if role["kind"] == "Role" else "")
        for rule in (of or {}).get("rules") or ():
            resources = rule.get("resources") or ()
            if {"secrets", "*"} & set(resources):
                yield from ((where, "get", (*secrets, ("name", each))) for each in rule.get("resourceNames") or ())
            if "*" in rule["verbs"] and not where:
                yield from ((where, "*", (("group", g), ("resource", r))) for g in rule["apiGroups"] for r in resources)


CHECKS: tuple[Check, ...] = (
    Check(
        id="pod-security",
        title="each namespace of the platform enforces a level of Pod Security, and every pod meets it",
        look=_pod_security,
        executes=True,
    ),
    Check(
        id="teams-apart",
        title="no account of a team may read Secrets, or enter pods, that are not the team's",
        look=_teams_apart,
        executes=True,
    ),
)
