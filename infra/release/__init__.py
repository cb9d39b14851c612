"""Releases: what a commit consists of, as a file that cannot be changed unnoticed."""
