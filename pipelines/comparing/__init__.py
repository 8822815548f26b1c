"""Finished runs beside one another: a leaderboard of their scores, costs and settings."""
