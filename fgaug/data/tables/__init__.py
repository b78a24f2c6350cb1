"""Read label tables from CSV, TSV and Excel files, with every cell as text."""
