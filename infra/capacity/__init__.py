"""What each team can get of the pools, what of it is in use, and what a Job of a given size would wait for and why.

Computed from an environment's data and, where there is a cluster, from what Kueue and the nodes say there; nothing is
changed here.
"""
