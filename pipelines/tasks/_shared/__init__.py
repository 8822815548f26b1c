"""Bases that several tasks extend, and objectives that several share."""
