"""The estimator atlas: docs/estimators.md and its pictures, drawn from the objects themselves."""
