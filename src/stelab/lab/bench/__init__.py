"""What stelab costs on this machine, measured beside plain PyTorch: ``stelab bench``.

Importing it is light: torch is imported by the processes that are measured alone, for a small
process also leaves their memory as it is.
"""
