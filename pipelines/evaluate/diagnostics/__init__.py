"""Diagnostics of recurrent networks: gradient flow, memory horizon, and advice from both."""
