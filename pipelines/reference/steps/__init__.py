"""The steps of the reference pipeline: command-line programs that run in its image, `python3 -m steps.NAME`.

They use what the image has (MLflow, scikit-learn, NumPy, click) and are no part of what deploys the platform. Modules
of which only functions need those import them there, so that the rest can be used without.
"""
