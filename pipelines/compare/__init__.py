"""Leaderboards of finished runs: scores, costs and settings."""
