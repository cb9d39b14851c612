"""Rehearsals: an environment's release is installed on a throwaway cluster, upgraded, rolled back, upgraded again."""
