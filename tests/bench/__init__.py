"""The bench: sessions through waxseal and through its peers, in the same three namespaces, by one load and one sink."""
