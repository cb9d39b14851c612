"""Clusters made through Cluster API, from an environment's data: `kiban provision`.

What then runs on the cluster is the program's matter (infra/wiring.py).
"""
