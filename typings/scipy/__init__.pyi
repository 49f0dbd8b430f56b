# What this package uses of scipy, which brings no types.
