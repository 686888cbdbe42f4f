"""Configuration: composed by Hydra, checked before anything slow starts."""

from stelab.engine.config.compose import CONF_DIR, build, compose

__all__ = ["CONF_DIR", "build", "compose"]
