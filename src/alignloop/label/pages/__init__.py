"""The pages of the annotation application: server-side HTML, one style sheet, a little script."""
