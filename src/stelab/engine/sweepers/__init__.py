"""What the sweepers share; ``sweep=grid|ablation|paired|optuna`` chooses one.

Their classes are in `hydra_plugins.stelab`, where Hydra looks for plugins: it executes the modules
there anew at each start, so nothing is derived from those.
"""
