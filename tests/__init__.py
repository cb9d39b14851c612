"""Tests: unit tests mirror the tree; integration, acceptance and bench start the real parts."""
