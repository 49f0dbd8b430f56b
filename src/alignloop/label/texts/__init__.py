"""All texts that readers see, in each language; below pages, plots and the API."""
