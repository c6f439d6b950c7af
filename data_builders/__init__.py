"""Task corpora for length generalization: tasks, mixtures and their draws. Needs NumPy alone."""

from data_builders import tasks as _tasks
from data_builders.arrays import Sample
from data_builders.mixture import Component, Mixture
from data_builders.registry import Task, TaskError, get_task, list_tasks, register_task
from data_builders.symbols import render

__all__ = [
    "Component",
    "Mixture",
    "Sample",
    "Task",
    "TaskError",
    "get_task",
    "list_tasks",
    "register_task",
    "render",
]
del _tasks
