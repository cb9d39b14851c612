"""The Pulumi program and the verbs around it."""
