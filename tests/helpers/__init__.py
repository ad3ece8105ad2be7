"""What several tests share: small networks, second implementations, names of the authors."""
