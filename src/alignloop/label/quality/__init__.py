"""Agreement, annotator quality, disagreements and the forecast.

`report` combines the parts for the lead's screens.
"""
