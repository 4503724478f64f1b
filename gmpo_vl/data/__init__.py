"""From a data set's rows to Examples, and from any table to rows in EasyR1's columns.

sources      where rows come from: files, folders, the hub    examples  the checked set, each step's order
rows         one row becomes an Example, or a named fault
images       a stored picture becomes RGB pixels              answers   the `answer` column
templates    prompt templates around a problem

mapping      the mapping file: keys, templates                map_row   one row, mapped
options      a row's choices, and which of them is right      letters   A. B. C. in texts and answers
preparation  a mapping or Python file as checked rows         convert   `gmpo-vl data convert`, the data card
columns      a table's columns as a whole                     writing   parquet; files that appear together
grouping     rows that share a picture, on one side           pictures/ which pictures a row means
start/       `gmpo-vl data new`: what a table's columns are   formats/  how each file format gives rows
"""
