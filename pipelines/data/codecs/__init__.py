"""Raw values of a column <-> numbers of a field. One module for a kind of value."""
