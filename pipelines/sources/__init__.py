"""One module a format of data, each with one Source; rows/ is what they read files with."""
