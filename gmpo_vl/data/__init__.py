"""From a data set's rows to Examples, and from any table to rows in EasyR1's columns.

sources      where rows come from: files, folders, the hub    formats   how each file format gives rows
rows         one row becomes an Example, or a named fault     examples  the checked set, each step's order
images       a stored picture becomes RGB pixels              answers   the `answer` column
templates    prompt templates around a problem

pictures     which pictures a row means                       pixels    arrays and PIL pictures as PNG
picture_folder   the file that a name means                   archives  pictures in zip and tar files

mapping      the mapping file: keys, templates                map_row   one row, mapped
options      a row's choices, and which of them is right      letters   A. B. C. in texts and answers
preparation  a mapping or Python file as checked rows         convert   `gmpo-vl data convert`, the data card
columns      a table's columns as a whole                     writing   parquet; files that appear together
grouping     rows that share a picture, on one side of a split

scaffold     `gmpo-vl data new`: guess_names, guess_columns, guess_pictures, guess_run say what it guesses
"""
