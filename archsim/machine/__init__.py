"""How this computer runs it: machine code, matrix products, processes, scratch memory."""
