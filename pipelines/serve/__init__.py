"""Serving: an HTTP server over SavedModels, each in a process of its own.

The process that speaks HTTP never imports TensorFlow. A version of a model is one worker process:
so a crash takes nothing else down, and what a version that is gone held is given back.
"""
