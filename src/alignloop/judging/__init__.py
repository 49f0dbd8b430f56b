"""How good is an answer: one protocol, whoever judges. Reward models, functions, worlds' rubrics.

`protocol` says what a judge is, `registry` makes one from its name in the settings.
"""
