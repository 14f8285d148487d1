"""Reports: results to one tidy table, to figures and tables, to pages."""
