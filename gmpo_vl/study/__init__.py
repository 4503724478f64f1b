"""A study: methods x learning rates x updates per rollout batch x seeds, declared first, each an ordinary run, one page at the end.

`file` reads, `plan` says what will run, `protocol` goes through the phases with `runner`, `outcomes` and `results` count,
`bands`, `page` and `figure` show.
"""
