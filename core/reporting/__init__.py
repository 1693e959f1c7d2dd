"""Pages, plots and templates that know no system."""
