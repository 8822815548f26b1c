"""Serving: an HTTP server over SavedModels, each in a process of its own.

The process that speaks HTTP never imports TensorFlow. Each version of a model is one worker
process: a crash affects no other model, and an unloaded version gives all its memory back.
"""
