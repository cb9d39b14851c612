"""The steps of the retraining: programs of the image of the reference pipeline, whose training is this one's too."""
