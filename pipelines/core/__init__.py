"""What all rooms agree on: contracts, tasks, settings, errors, files. Free of TensorFlow."""
