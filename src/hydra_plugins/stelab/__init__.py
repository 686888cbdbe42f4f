"""stelab's sweepers and launchers, where Hydra looks for plugins.

Hydra imports every module here at each start, so none of them imports anything heavy.
"""
