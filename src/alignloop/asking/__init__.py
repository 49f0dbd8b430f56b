"""What to ask people next: models answer prompts, and the comparisons worth a label are filed.

`answers` samples (and goes on where it stopped), `candidates` pairs the answers up, `choose` picks
by chance, by a reward model's doubt, by the quarrel of several, or by what is missing; `commands`
is `alignloop label sample`. It loads torch, which the label room never does.
"""
