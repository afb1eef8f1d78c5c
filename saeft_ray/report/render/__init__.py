"""A report as page, Markdown, tables and plots. Everything here only writes what `content` holds."""
