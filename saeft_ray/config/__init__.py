"""The sweep file: its form, its reading with every mistake at once, and the types that it may name."""
