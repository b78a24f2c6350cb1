"""Published: the tables of the two source studies, analysed anew."""
