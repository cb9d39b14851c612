"""The retraining of a model in service: from an alert to a proposal, or to the record of why there is none."""
