"""What the sweepers share; `stelab.engine.launchers` says where their classes are, and why."""
