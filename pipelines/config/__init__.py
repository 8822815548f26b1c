"""The configuration: its schema, Hydra hooks, messages, and how a run's own one is restored."""
