#!/bin/sh
# alpaca_eval 0.6.6: the length-controlled win rate of the same annotations depends on the order of
# their rows. Its logistic regression chooses an L1 penalty by cross-validation over folds of
# neighbouring rows, and another order makes other folds. Made-up preferences of 805 answers, of a
# logistic model without noise beyond the coin, the formula "length_controlled_minimal", 2026-11-30:
#
#   as written  57.19
#   shuffled    54.96
#
# The formula has no term for difficulty, but the function loads the file with difficulties from the
# Hub all the same; here it gets a file of zeros instead. Fails if the two figures agree.
# alignloop fits the same model with a fixed small ridge (src/alignloop/stats/winrate.py).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps alpaca_eval==0.6.6
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 pandas==2.3.3 patsy==1.0.3 scikit-learn==1.9.1 \
    huggingface_hub==2.4.0 datasets==5.2.0 openai==3.57.0 fire==0.7.1 python-dotenv==1.2.4 tiktoken==0.14.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'EOF'
import numpy as np
import pandas as pd
from alpaca_eval.metrics import glm_winrate

COUNT = 805
pd.DataFrame({"index": range(COUNT), "instruction_difficulty": 0.0, "model": "none"}).to_csv("zeros.csv")
glm_winrate.hf_hub_download = lambda **_: "zeros.csv"

random = np.random.default_rng(2)
first = random.lognormal(5.5, 0.7, COUNT).astype(int) + 5
second = (first * random.lognormal(random.normal(0, 0.5), 0.5, COUNT)).astype(int) + 5
longer = second - first
theta, phi = random.normal(0, 0.7), random.normal(0.7, 0.4)
chance = 1 / (1 + np.exp(-(theta + phi * np.tanh(longer / longer.std(ddof=1)))))
rows = pd.DataFrame(
    {
        "instruction": [f"question {number}" for number in range(COUNT)],
        "output_1": ["a" * length for length in first],
        "output_2": ["b" * length for length in second],
        "generator_1": "one",
        "generator_2": "other",
        "annotator": "made up",
        "preference": 1.0 + (random.random(COUNT) < chance),
    }
)


def rate(rows):
    found = glm_winrate.get_length_controlled_winrate(
        rows.copy(), glm_name="length_controlled_minimal", save_weights_dir=None
    )
    return round(float(found["length_controlled_winrate"]), 2)


written = rate(rows)
shuffled = rate(rows.sample(frac=1, random_state=5).reset_index(drop=True))
print("as written ", written)
print("shuffled   ", shuffled)
assert abs(written - shuffled) > 1, "the behaviour has changed"
EOF
