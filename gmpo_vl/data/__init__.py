"""From a data set's rows to Examples, and from any table to rows in EasyR1's columns.

sources      where rows come from: files, folders, the hub    formats   how each file format gives rows
rows         one row becomes an Example, or a named fault     examples  the checked set, each step's order
images       a stored picture becomes RGB pixels              answers   the `answer` column
templates    prompt templates around a problem

pictures     which pictures a row means                       pixels    arrays and PIL pictures as PNG
picture_folder   the file that a name means                   archives  pictures in zip and tar files

mapping      the mapping file: keys, templates                map_row   one row, mapped
preparation  a mapping or Python file as checked rows         convert   `gmpo-vl data convert`, the data card
writing      parquet; files that appear together              scaffold  `gmpo-vl data new`
grouping     rows that share a picture, on one side of a split
"""
