"""Every check of a rehearsal."""
