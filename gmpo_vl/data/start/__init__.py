"""`gmpo-vl data new`: what a table's columns are (names, columns, pictures), a first run over it (run), and
the files that say so (write, files/)."""
