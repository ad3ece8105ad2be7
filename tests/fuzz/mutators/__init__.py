"""Ways to spoil a file: bytes, and the fields of each format; each takes bytes and a generator."""
