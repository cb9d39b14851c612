"""Tests on real clusters, of one part each. A package: their clusters last as long as it."""
