"""Tools that put archsim itself to the test."""
