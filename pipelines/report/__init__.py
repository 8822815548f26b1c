"""HTML reports: pages, plots and tables."""
