"""Reusable Pulumi components: each takes frozen arguments and what it is wired to."""
