"""The two demos: a tiny model answers test questions, trains on a CPU with GMPO, and answers them again."""
