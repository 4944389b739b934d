"""alembic's entry: migrations run on the connection that store/migrate.py hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
