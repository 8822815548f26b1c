"""A task's own parts of the report; one module for a kind of task."""
