"""How far people agree, how good each of them is, what is disputed, and when it will be done.

`rows` holds what everything reads, `load` fills it from the database, `report` puts the parts
together for the lead's screens.
"""
