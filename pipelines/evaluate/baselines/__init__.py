"""What simple systems score on the same examples; one module for a kind of task."""
