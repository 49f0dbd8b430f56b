"""The labels of a project as plain frozen rows: what quality pages, exports and training share.

`project_labels` has the types, `votes` what two people say of one thing, `pairs` what a reward
model learns. Nothing here knows the database: `store.read_labels` fills them from it.
"""
