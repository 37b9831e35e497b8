"""What to build: typed, validated descriptions of hardware and GPUs, read from YAML.

Nothing in here knows how a block behaves; that is `archsim.chip`.
"""
