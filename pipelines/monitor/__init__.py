"""The drift monitor: what a model in service was asked and said, held against what it was trained on."""
