"""Devices, and the workers that train one model together."""
