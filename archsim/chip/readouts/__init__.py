"""What stands between the two products: ``readout.model``.

A readout takes the charges of K bit lines and makes the pulses that drive the V arrays. Its law
(`archsim.chip.readouts.law`) is what the datapath computes with; the block says what it holds, does
and occupies.
"""
