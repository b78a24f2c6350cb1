"""Label tables: CSV, TSV and Excel files as text, and the columns that name images."""
