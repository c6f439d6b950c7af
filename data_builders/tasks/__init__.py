"""The built-in tasks. To add one, write a decorated function in a module of this package."""

from data_builders.tasks import arithmetic, strings

__all__ = ["arithmetic", "strings"]
