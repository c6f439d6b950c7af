"""The built-in tasks. To add one, write a decorated function in a module of this package."""

import importlib
import pkgutil

# every module is read, so that a new one needs no second place to be named in
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
