"""Leaderboards of finished runs: their scores, costs and settings."""
