"""The pictures of a row (of_row): pixels that it holds, or the file that a name means (folder, archives)."""
