"""The pages of the annotation application: HTML on the server, one style sheet, a little script."""
