"""One module a format of data, each with one Source; rows/ is what they read files with.

Modules with an underscore are what several formats share.
"""
