"""The JSON API with its guards; `app.create_app` puts it together with the pages."""
