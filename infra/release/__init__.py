"""Releases, the ladder that they climb, the gates on it, and the record of who promoted what, when and why."""
