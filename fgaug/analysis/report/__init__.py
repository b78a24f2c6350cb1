"""Report: a run as one self-contained HTML page, with tables and figures beside it."""
