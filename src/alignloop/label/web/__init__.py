"""The JSON API with its guards; `app.create_app` combines it with the pages."""
