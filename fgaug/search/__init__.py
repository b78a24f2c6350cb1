"""The executor: cells without a finished row -> Ray Tune trials on fractions of a machine."""
