"""What to have labelled next: models answer prompts, and the most useful comparisons are filed.

`answers` samples (and resumes), `candidates` pairs the answers, `select` picks at random, by a
reward model's uncertainty, by the disagreement of several, or by coverage; `sample_command` is
`alignloop label sample`. This package loads torch, which `alignloop.label` never does.
"""
