"""Tests that share one cluster with environment `local`; modules run in the order of their names.

Each works on what the earlier ones left, and alone.
"""
