"""One module for each data format, with one Source; rows/ reads files of rows for them.

Several formats share the modules whose names begin with an underscore.
"""
