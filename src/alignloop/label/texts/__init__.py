"""Every word that a reader sees, in each language; below pages, pictures and the API."""
