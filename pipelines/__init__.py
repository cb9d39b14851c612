"""Pipelines that Kiban ships: what runs in a team's namespace, not what deploys the platform."""
