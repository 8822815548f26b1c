"""TensorFlow graph code that tasks and stages share."""
