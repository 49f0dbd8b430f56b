# What this package uses of scikit-learn, which brings no types.
