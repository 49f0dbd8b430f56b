"""The database: tables, and the functions that read and write them, independent of HTTP.

Every function takes a `Session` that `Database.reading()` or `Database.transaction()` gives.
"""
