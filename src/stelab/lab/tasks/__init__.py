"""What networks with binary layers are trained for, a class each."""

from stelab.lab.tasks.base import Task
from stelab.lab.tasks.classify import Classify
from stelab.lab.tasks.elbo import Elbo
from stelab.lab.tasks.minimize import Minimize
from stelab.lab.tasks.reconstruct import Reconstruct
from stelab.lab.tasks.tokenize import Tokenize

__all__ = ["Classify", "Elbo", "Minimize", "Reconstruct", "Task", "Tokenize"]
