"""Published tables of two studies, analysed anew.  shipped CSV -> [published] -> folder

`write_thesis` and `write_breast` write a folder: a page, CSV files, LaTeX tables, figures.
"""

from fgaug.report.published.breast_page import write_breast
from fgaug.report.published.thesis_page import write_thesis

__all__ = ["write_breast", "write_thesis"]
