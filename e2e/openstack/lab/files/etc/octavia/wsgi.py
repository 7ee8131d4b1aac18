"""What uwsgi loads to serve Octavia's API."""
from octavia.api import app

application = app.setup_app(argv=['octavia-api', '--config-file', '{{.Etc}}/octavia/octavia.conf'])
