"""What an environment's monitoring is asked to watch, from what the environment has."""

import dataclasses as dc

from components.monitoring import MonitoringArgs
from components.monitoring_rules import RuleArgs, WatchedModel
from components.serving_stack import Model
from stacks._schema import Environment


def monitoring(given: MonitoringArgs, env: Environment) -> MonitoringArgs:
    """The environment's monitoring, with what there is to be scraped."""
    return dc.replace(
        given,
        teams=env.teams,
        queueing=env.queueing is not None,
        certificates=env.certificates,
        gateway=env.serving is not None and env.serving.gateway is not None,
        gpus=bool(env.gpu_pools),
        devices=env.devices.namespace if env.devices else None,
        retraining=env.retraining is not None,
    )


def rules(env: Environment) -> RuleArgs:
    """What the alert rules are made from."""
    models = env.serving.models if env.serving else ()
    return RuleArgs(
        models=tuple(_watched(model, retrain=env.retraining is not None) for model in models),
        gateway=env.serving is not None and env.serving.gateway is not None,
        gpus=bool(env.gpu_pools),
    )


def _watched(model: Model, *, retrain: bool) -> WatchedModel:
    watched = WatchedModel(
        name=model.name,
        team=model.team,
        version=model.version,
        availability=model.objective.availability,
        latency_ms=model.objective.latency_ms,
    )
    if model.watch is None:
        return watched
    return dc.replace(
        watched,
        drift_share=model.watch.drift_share,
        prediction_drift=model.watch.prediction_drift,
        accuracy=model.watch.accuracy,
        fewest_requests=model.watch.fewest_requests,
        retrain=retrain,
    )
