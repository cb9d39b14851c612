"""The step of the drift monitor, and what it shares with the retraining: logged requests, feed, training reference.

Programs of their image, `python3 -m pipelines.monitor.steps.NAME`. Modules that only the step needs import Evidently
and pandas where they use them; what the retraining shares needs neither.
"""
