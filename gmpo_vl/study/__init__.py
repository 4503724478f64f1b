"""A study compares methods x learning rates x updates per batch x seeds. It is declared before it runs.

`declaration` reads its file, `grid` says which runs that makes, `phases` goes through them with `runner`,
`outcomes` and `estimates` count, `study_page` and `figure` show.
"""
