"""One module a task, each with one Task; modules that begin with "_" are what several share."""
