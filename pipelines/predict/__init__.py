"""Predictions for texts, files and folders by a run's SavedModel."""
