"""One module a task, each with one Task; `_shared` holds what several of them extend."""
