"""How good is an answer: one protocol for reward models, functions and worlds' rubrics.

`protocol` defines a judge, `registry` makes one from its name in the settings.
"""
