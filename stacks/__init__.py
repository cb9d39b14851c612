"""Environments: values only, one file an environment. `load` finds one by name."""
