"""A small Hugging Face Hub on loopback, for tests: what a client pushes to it, it can load again."""

from .faults import Fault, Faults
from .server import Hub
from .store import HubError, Repo, Store

__all__ = ["Fault", "Faults", "Hub", "HubError", "Repo", "Store"]
