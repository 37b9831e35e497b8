"""Tools that put archsim itself, and variants from outside, to the test.

>>> from archsim.testing import conform
>>> print(conform(SarAdc, bits=6, full_scale="80 uA"))
"""

from archsim.errors import ConformError
from archsim.testing.conformity import Conformity, conform

__all__ = ["ConformError", "Conformity", "conform"]
