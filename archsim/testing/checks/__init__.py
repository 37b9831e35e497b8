"""What every variant must hold: one module for each of function, times, books, figures and laws."""
