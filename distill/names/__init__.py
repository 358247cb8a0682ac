"""The names and layouts that other libraries give to parameters, to read them and to write them."""
