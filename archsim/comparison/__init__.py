"""The accelerator beside a GPU, in one shape of the work.

The accelerator comes in as a few figures (`accelerator.AcceleratorFigures`).
"""
