"""Configuration: composed by Hydra, checked before anything slow starts."""

from stelab.config.compose import CONF_DIR, build, compose

__all__ = ["CONF_DIR", "build", "compose"]
