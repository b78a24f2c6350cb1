"""Published tables, analysed anew."""
