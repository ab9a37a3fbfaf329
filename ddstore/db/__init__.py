"""Everything that talks to PostgreSQL about structure: connections, catalog, migrations, DDL, the extension."""
