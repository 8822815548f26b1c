"""The shared stages (prepare, train, evaluate, export, report) and what they read and write."""
