"""Admission rules that keep out of the queues what no node would hold: Kueue counts a pool's sum, and knows no nodes.

A workload may go to any flavor that Kueue finds to match it, so the nodes of every such flavor have to hold it; else it
names a pool that does. The API server judges it, by what the data say of the pools and of the team's part of them. What
these rules say in CEL, components/_shapes.py says of data.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from components._labels import POOL, TEAM
from components._pools import GPU, SYSTEM_POOL, Taint
from components._shapes import Place, described

_PLAIN = ("cpu", "memory")
_TOPOLOGY = "kueue.x-k8s.io/podset-"


def rules(places: Mapping[str, Sequence[Place]]) -> dict[str, dict[str, Any]]:
    """ValidatingAdmissionPolicy name to spec. places: of each team, at least one team.

    They judge what is made, not what is changed: what is in a queue already stays there when a pool becomes smaller.
    """
    # as Kueue counts a Job's pods (pkg/controller/jobs/job, podsCount)
    most = "object.spec.?parallelism.orValue(1)"
    at_once = f"[{most}, object.spec.?completions.orValue({most})].min()"
    data = _data(places)
    return {
        "kiban-jobs-fit-a-node": _rule("batch", "jobs", {"template": "object.spec.template", "pods": at_once} | data),
        "kiban-pods-fit-a-node": _rule("", "pods", {"template": "object", "pods": "1"} | data),
    }


def _rule(group: str, resource: str, variables: Mapping[str, str]) -> dict[str, Any]:
    kind = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchExpressions": [{"key": TEAM, "operator": "Exists"}]},
            "resourceRules": [kind],
        },
        "variables": [{"name": name, "expression": expression} for name, expression in variables.items()],
        "validations": [
            {"expression": "variables.chosen.all(p, p in variables.fitting)", "messageExpression": _message()}
        ],
    }


def _data(places: Mapping[str, Sequence[Place]]) -> dict[str, str]:
    """Variable to expression, each made of those before it. Amounts are in cores, MiB and devices, as `resources`."""
    every = {each.name: each for of_team in places.values() for each in of_team}
    offered = (name for each in every.values() for name in each.node if name not in _PLAIN)
    devices = dict.fromkeys((GPU, *offered))  # a list is never empty, so that CEL knows its type
    known = dict.fromkeys(key for each in every.values() for key in each.known)
    taints = {
        taint: [one.name for one in every.values() if taint in one.taints]
        for each in every.values()
        for taint in each.taints
    }
    return {
        "resources": _literal([*_PLAIN, *devices]),
        "units": _literal(["cores", "MiB", *devices]),
        "words": _literal({each.name: described(each) for each in every.values()}),
        "indices": _literal(list(range(len(_PLAIN) + len(devices)))),
        "nodes": _literal({each.name: each.nodes for each in every.values()}),
        "node": _literal({each.name: _amounts(each.node, (*_PLAIN, *devices)) for each in every.values()}),
        "whole": _literal({each.name: _amounts(each.most, _PLAIN) for each in every.values()}),
        "teams": _literal(
            {
                team: {each.name: _amounts(each.most, tuple(devices)) for each in of_team}
                for team, of_team in places.items()
            }
        ),
        "labels": _literal({each.name: dict(each.labels) for each in every.values()}),
        "known": _literal({each.name: dict(each.known) for each in every.values()}),
        "keys": _literal(list(known)),
        "team": f"namespaceObject.metadata.labels['{TEAM}']",
        # a team that the data do not know has a part of nothing but the nodes without GPUs
        "mine": f"variables.teams[?variables.team].orValue({_literal({SYSTEM_POOL: [0.0] * len(devices)})})",
        "spec": "variables.template.spec",
        "selector": "variables.spec.?nodeSelector.orValue({})",
        "tolerations": "variables.spec.?tolerations.orValue([])",
        "close": "variables.template.?metadata.?annotations.orValue({}).exists(a, "
        f"a.startsWith('{_TOPOLOGY}') && a.endsWith('-topology'))",
        "sidecars": _initial("=="),
        "initial": _initial("!="),
        "asks": f"variables.resources.map(r, {_asked()})",
        "within": "variables.mine.filter(p, "
        f"(p in {_literal([each.name for each in every.values() if each.levels])}) == variables.close && "
        "variables.indices.all(i, double(variables.pods) * variables.asks[i] <= "
        "(variables.whole[p] + variables.mine[p])[i] + 0.0005))",
        "holding": "variables.within.filter(p, variables.indices.all(i, variables.asks[i] == 0.0 || variables.pods <= "
        "variables.nodes[p] * int(variables.node[p][i] / variables.asks[i] + 0.000001)))",
        "chosen": "variables.within.filter(p, variables.labels[p].all(k, "
        "!(k in variables.selector) || variables.selector[k] == variables.labels[p][k])"
        f"{''.join(f' && {_tolerated(taint, having)}' for taint, having in taints.items())})",
        "fitting": "variables.holding.filter(p, variables.selector.all(k, !(k in variables.keys) || "
        "(k in variables.known[p] && variables.known[p][k] == variables.selector[k])))",
    }


def _initial(same: str) -> str:
    return f"variables.spec.?initContainers.orValue([]).filter(c, c.?restartPolicy.orValue('') {same} 'Always')"


def _asked() -> str:
    """What a pod requests of resource `r`: as a whole, or its containers, counted as the scheduler does.

    More than that where a large init container is before a sidecar, which then does not run beside it.
    """
    each = "quantity(c.?resources.?requests[?r].or(c.?resources.?limits[?r]).orValue('0')).asApproximateFloat()"
    running = f"variables.spec.containers.map(c, {each}).sum()"
    beside = f"variables.sidecars.map(c, {each}).sum()"
    before = f"(variables.initial.map(c, {each}) + [0.0]).max()"
    whole = "variables.spec.?resources.?requests[?r].or(variables.spec.?resources.?limits[?r])"
    of_whole = f"quantity({whole}.value()).asApproximateFloat()"
    of_containers = f"[{running}, {before}].max() + {beside}"
    return f"({whole}.hasValue() ? {of_whole} : {of_containers}) / (r == 'memory' ? 1048576.0 : 1.0)"


def _tolerated(taint: Taint, pools: list[str]) -> str:
    """Whether the pod tolerates the taint, if pool `p` is one of those that have it."""
    key, value, effect = (_literal(part) for part in (taint.key, taint.value, taint.effect))
    return (
        f"(!(p in {_literal(pools)}) || variables.tolerations.exists(t, t.?effect.orValue('') in ['', {effect}] && "
        f"(t.?operator.orValue('Equal') == 'Exists' ? t.?key.orValue('') in ['', {key}] : "
        f"t.?key.orValue('') == {key} && t.?value.orValue('') == {value})))"
    )


def _message() -> str:
    """What was asked, whose nodes do not hold it, and what to write."""
    asked = (
        "variables.indices.filter(i, variables.asks[i] > 0.0)"
        ".map(i, string(variables.asks[i]) + ' ' + variables.units[i]).join(', ')"
    )
    losing = "variables.chosen.filter(p, !(p in variables.fitting))"
    return (
        f"string(variables.pods) + ' pods at once of ' + {asked} + ': the queue may choose ' + "
        f"{losing}.map(p, variables.words[p]).join(' or ') + ', which do not hold that; accepted: ' + "
        f"(variables.holding.size() > 0 ? 'nodeSelector {POOL}: ' + variables.holding.join(' or ') + "
        "', and tolerations of its taints' : 'less, since no pool that team ' + variables.team + ' has a part of does')"
    )


def _amounts(of: Mapping[str, int], resources: Sequence[str]) -> list[float]:
    return [of.get(name, 0) / (1000 if name == "cpu" else 1) for name in resources]


def _literal(value: object) -> str:
    """The value in CEL, whose lists and maps hold one type each."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_literal(key)}: {_literal(each)}" for key, each in value.items()) + "}"
        case list():
            return f"[{', '.join(map(_literal, value))}]"
        case float():
            return repr(value)
        case int():
            return str(value)
        case _:
            return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
