"""`manage.py loadtest`: what is sent, the sending, what came of it, and how that is told. For that command only."""
