"""Acceptance tests: what a user does, by the commands that a user has."""
