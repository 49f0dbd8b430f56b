"""A project's labels as frozen rows, shared by quality pages, exports and training.

`project_labels` has the types, `votes` the units of agreement, `pairs` the training pairs. Nothing
here uses the database: `store.read_labels` fills the rows from it.
"""
