"""`gmpo-vl data new`: what a table's columns are (names, columns, chats, answers, pictures, guesses), a first
run over it (run), and the files that say so (write, files/)."""
