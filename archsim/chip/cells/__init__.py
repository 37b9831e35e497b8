"""Current laws of a gain cell: ``cell.model``."""
