"""What to ask people next: models answer prompts, and the comparisons worth a label are filed.

`answers` samples (and resumes), `candidates` pairs the answers up, `select` picks by chance, by a
reward model's doubt, by the disagreement of several, or by what is missing; `sample_command` is
`alignloop label sample`. It loads torch, which the label room never does.
"""
