"""Recurrent models on Keras: they know sequences, and nothing of data, tasks or configuration."""
